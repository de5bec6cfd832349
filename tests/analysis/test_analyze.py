"""What a model's tensors hold, and what their grids make of it."""

import copy
import json
import math

import pytest
import torch
from torch import nn

import fxquant
from fxquant.analysis.analyze import outlier_channels
from fxquant.analysis.site_noise import noise_of_histogram, noise_of_tensor
from fxquant.calibration.channel_ranges import ChannelRanges
from fxquant.calibration.observed_model import ObservedModel
from fxquant.calibration.sites import activation_sites
from fxquant.errors import BatchError, ModelTypeError, NonFiniteError, OptionError
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.quantization.encoding_analyzer import ExactHistogramObserver
from fxquant.quantization.encoding_analyzer.exact_histogram import power_of_two
from fxquant.quantization.float import FloatQuantizeDequantize
from tests import networks

VALUES = {
    "normal": lambda: torch.randn(5000),
    "after a ReLU": lambda: torch.relu(torch.randn(5000)),
    "outliers": lambda: torch.cat((torch.randn(5000), torch.tensor([40.0, -70.0]))),
    "few levels": lambda: torch.randint(0, 17, (5000,)) / 16,
    "one value": lambda: torch.full((100,), 0.37),
    "tiny": lambda: torch.rand(5000) * 1e-6,
    "zero": lambda: torch.zeros(50),
}


def histogram_of(values):
    observer = ExactHistogramObserver((), num_bins=4096)
    observer.merge_stats(observer.collect_stats(values))
    return observer.get_stats()


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("share", [1.0, 0.4], ids=("whole range", "clipped"))
def test_noise_of_a_histogram_is_that_of_the_quantizer_up_to_a_bin(values, bits, share):
    tensor = values()
    quantizer = QuantizeDequantize((), bits, symmetric=False)
    quantizer.set_range(min(0.0, share * float(tensor.min())), max(0.01, share * float(tensor.max())))
    histogram = histogram_of(tensor)
    found, wanted = noise_of_histogram(quantizer, histogram), noise_of_tensor(quantizer, tensor)
    # the distance to a grid is a function of slope 1 at most, and a value moves within its bin
    width = float(power_of_two(histogram.exponent)[0])
    rounding = 1e-6 * float(tensor.abs().max())  # float32 of the quantizer
    assert found.elements == wanted.elements == tensor.numel()
    assert math.sqrt(found.noise / found.elements) == pytest.approx(
        math.sqrt(wanted.noise / wanted.elements), rel=0, abs=width + rounding
    )
    assert math.sqrt(found.signal) == pytest.approx(
        math.sqrt(wanted.signal), rel=0, abs=(width + rounding) * math.sqrt(found.elements)
    )


def test_noise_of_a_histogram_is_close_where_values_are_spread():
    tensor = torch.randn(200_000)
    quantizer = QuantizeDequantize((), 8, symmetric=True)
    quantizer.set_range(-4.0, 4.0)
    found, wanted = noise_of_histogram(quantizer, histogram_of(tensor)), noise_of_tensor(quantizer, tensor)
    # squared errors are spread over [0, s^2/4]: their mean over n values scatters by 0.9 / sqrt(n) of itself,
    # and within a bin values are random
    assert found.noise == pytest.approx(wanted.noise, rel=4 * 0.9 / math.sqrt(200_000))


def test_noise_of_a_histogram_holds_for_float_types():
    tensor = torch.randn(5000)
    quantizer = FloatQuantizeDequantize(4, 3, finite=True, unsigned_zero=False, shape=())
    quantizer.calibrate(tensor)
    histogram = histogram_of(tensor)
    found, wanted = noise_of_histogram(quantizer, histogram), noise_of_tensor(quantizer, tensor)
    width = float(power_of_two(histogram.exponent)[0])
    assert math.sqrt(found.noise / 5000) == pytest.approx(math.sqrt(wanted.noise / 5000), rel=0, abs=width)


@pytest.mark.parametrize("name", networks.cases())
@pytest.mark.parametrize("target", ["tensorrt", "onnxruntime", "qualcomm"])
def test_every_site_is_measured_as_running_its_quantizer_would(name, target):
    model, batch = networks.cases()[name]
    prepared = fxquant.prepare(model, batch, target=target)
    fxquant.calibrate(prepared, [copy.deepcopy(batch)], progress=False)
    analysis = fxquant.analyze(prepared, [copy.deepcopy(batch)], progress=False)
    found = {site.name: site for site in analysis.sites}
    seen = {}
    sites = activation_sites(prepared)
    observed = ObservedModel(prepared, sites, lambda site, value: seen.setdefault(site, value.clone()))
    with observed.running() as call:
        call(**copy.deepcopy(batch)) if isinstance(batch, dict) else call(batch.clone())
    assert {site.name for site in sites} <= found.keys()
    for site, tensor in seen.items():
        noise, row = noise_of_tensor(site.quantizer, tensor), found[site.name]
        width = (row.maximum - row.minimum) / 2000 + 1e-6  # at least 2,048 bins hold the range
        assert math.sqrt(row.mse) == pytest.approx(math.sqrt(noise.noise / noise.elements), rel=0, abs=width)
        assert (row.minimum, row.maximum) == (float(tensor.min()), float(tensor.max()))


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(128, 4)
    ).eval()


def batches():
    return [torch.randn(4, 3, 8, 8) for _ in range(3)]


def test_outlier_channel_is_found_in_activation_and_weight():
    model = net()
    with torch.no_grad():
        model[0].weight[5] *= 40
    prepared, data = fxquant.prepare(model, target="qualcomm"), batches()
    fxquant.calibrate(prepared, data, progress=False)
    analysis = fxquant.analyze(prepared, data, progress=False)
    found = {site.name: [channel.index for channel in site.outliers] for site in analysis.outliers()}
    assert {"0.weight": [5]}.items() <= found.items()
    assert any(indices == [5] for name, indices in found.items() if name != "0.weight")
    assert all(indices == [5] for indices in found.values())


def test_channel_ranges_are_those_of_the_data():
    prepared, data = fxquant.prepare(net(), target="qualcomm"), batches()
    analysis = fxquant.analyze(prepared, data, progress=False)
    image = torch.cat(data).movedim(1, 0).flatten(1)
    wanted = list(zip(image.amin(1).tolist(), image.amax(1).tolist(), strict=True))
    assert list(analysis.sites[0].channels) == wanted
    assert analysis.sites[0].sqnr is None


def test_median_leaves_out_channels_of_zeros():
    ends = torch.tensor([[0.0, 0, 0, -1, -1, -9], [0, 0, 0, 1, 1, 2]])
    assert [(c.index, c.ratio) for c in outlier_channels(ends, 8.0)] == [(5, 9.0)]
    assert outlier_channels(torch.zeros(2, 4), 8.0) == ()


def test_channels_of_another_number_have_no_ranges():
    ranges = ChannelRanges(-1)
    for width in (3, 4, 4):
        ranges.add(ranges.look(torch.randn(2, width)))
    assert ranges.ends() is None


@pytest.mark.parametrize("activations", ["cpu", "disk"])
def test_block_by_block_gives_the_same(activations):
    prepared, data = fxquant.prepare(net(), target="qualcomm"), batches()
    fxquant.calibrate(prepared, data, progress=False)
    offload = fxquant.Offload(activations=activations, block_bytes=1000)
    blockwise = fxquant.analyze(prepared, data, progress=False, offload=offload)
    assert blockwise.to_json() == fxquant.analyze(prepared, data, progress=False).to_json()


def test_order_of_batches_does_not_matter():
    prepared, data = fxquant.prepare(net(), target="qualcomm"), batches()
    fxquant.calibrate(prepared, data, progress=False)
    one, other = (fxquant.analyze(prepared, b, progress=False).to_json() for b in (data, data[::-1]))
    assert one == other


def test_statistics_serve_methods_and_files(tmp_path):
    prepared, data = fxquant.prepare(net(), target="qualcomm"), batches()
    analysis = fxquant.analyze(prepared, data, progress=False)
    fxquant.save_statistics(analysis.statistics, tmp_path / "seen.pt")
    loaded = fxquant.load_statistics(tmp_path / "seen.pt")
    first = next(iter(analysis.statistics.tensors))
    assert torch.equal(loaded[first].channels.ends(), analysis.statistics[first].channels.ends())
    for method in ("minmax", "moving_average", "entropy", "mse"):
        fxquant.apply_statistics(prepared, loaded, method)


def test_histogram_counts_every_value():
    prepared, data = fxquant.prepare(net(), target="qualcomm"), batches()
    analysis = fxquant.analyze(prepared, data, progress=False)
    site = analysis.sites[0]
    histogram = analysis.histogram(site.name)
    assert sum(histogram.counts) == site.elements == 3 * 4 * 3 * 64
    assert histogram.edges[0] <= site.minimum
    assert site.maximum <= histogram.edges[-1]
    with pytest.raises(OptionError, match="no quantized activation"):
        analysis.histogram("nowhere")


def test_report_names_every_layer_and_is_json():
    prepared, data = fxquant.prepare(net(), target="qualcomm"), batches()
    fxquant.calibrate(prepared, data, progress=False)
    analysis = fxquant.analyze(prepared, data, progress=False)
    assert {"0", "2", "4"} <= analysis.by_layer().keys()
    assert len(json.loads(analysis.to_json())["sites"]) == len(analysis.sites)
    assert [site.sqnr for site in analysis.ranked()] == sorted(site.sqnr for site in analysis.sites)
    assert str(analysis.ranked()[0]) in str(analysis)


def test_analysis_refuses_what_it_cannot_measure():
    prepared = fxquant.prepare(net(), target="qualcomm")
    with pytest.raises(ModelTypeError):
        fxquant.analyze(net(), batches(), progress=False)
    with pytest.raises(OptionError, match="outlier factor"):
        fxquant.analyze(prepared, batches(), outlier_factor=1.0, progress=False)
    with pytest.raises(BatchError):
        fxquant.analyze(prepared, [], progress=False)
    with pytest.raises(NonFiniteError):
        fxquant.analyze(prepared, [torch.full((1, 3, 8, 8), math.nan)], progress=False)
