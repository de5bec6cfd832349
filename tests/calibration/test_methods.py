"""Each method, and several from one collection."""

import copy
import functools

import pytest
import torch
from torch import nn

import fxquant
from fxquant.calibration import METHODS, Kind, TensorStatistics, method_of
from fxquant.calibration.sites import activation_sites, weight_sites
from fxquant.errors import OptionError
from fxquant.quantization.encoding_analyzer import (
    EntropyEncodingAnalyzer,
    MinMaxEncodingAnalyzer,
    MovingAverageMinMaxEncodingAnalyzer,
    MseEncodingAnalyzer,
    PercentileEncodingAnalyzer,
    SqnrEncodingAnalyzer,
)
from tests import digits

IMAGES = digits.split().train_images[:96]
BATCHES = list(IMAGES.split(32))
WEIGHT_METHODS = ["minmax", "percentile:90", "entropy", "mse", "sqnr"]


@pytest.fixture(scope="module")
def seen():
    """What the float digits classifier gives the quantizer of each tensor, batch by batch."""
    prepared = _prepared()
    found = {}
    for batch in BATCHES:
        names = {site.node: site.name for site in activation_sites(prepared)}

        def show(node, value, names=names):
            if node in names:
                found.setdefault(names[node], []).append(value.clone())

        fxquant.calibration.CalibrationInterpreter(prepared, show).run_all(batch)
    return found


@functools.cache
def _prepared():
    return fxquant.prepare(digits.float_model(), target="onnxruntime")


def calibrated(method, batches=BATCHES, **options):
    prepared = copy.deepcopy(_prepared())
    fxquant.calibrate(prepared, batches, method=method, **options)
    return prepared


@functools.cache
def _minmax():
    return calibrated("minmax")


def ranges(prepared):
    return {
        site.name: (site.quantizer.min.item(), site.quantizer.max.item())
        for site in activation_sites(prepared)
    }


ANALYZERS = {
    "minmax": lambda: MinMaxEncodingAnalyzer(()),
    "moving_average": lambda: MovingAverageMinMaxEncodingAnalyzer(()),
    "percentile": lambda: PercentileEncodingAnalyzer((), 4096, 99.99, exact=True),
    "percentile:97": lambda: PercentileEncodingAnalyzer((), 4096, 97, exact=True),
    "entropy": lambda: EntropyEncodingAnalyzer((), 2048),
    "mse": lambda: MseEncodingAnalyzer((), 4096),
    "sqnr": lambda: SqnrEncodingAnalyzer((), 4096, exact=True),
}


@pytest.mark.parametrize("method", ANALYZERS)
def test_ranges_are_those_of_the_methods_analyzer(method, seen):
    prepared = calibrated(method)
    own = {}  # of tensors that share a quantizer with no other, so that one analyzer sees all of it
    for site in activation_sites(prepared):
        own.setdefault(site.quantizer, []).append(site)
    alone = [
        sites[0] for sites in own.values() if len(sites) == 1 and sites[0].quantizer.is_overwrite_allowed()
    ]
    assert len(alone) > 5
    for site in alone:
        analyzer = ANALYZERS[method]()
        for value in seen[site.name]:
            analyzer.update_stats(value)
        quantizer = site.quantizer
        low, high = analyzer.compute_encodings(quantizer.qmax - quantizer.qmin, quantizer.symmetric)
        assert (quantizer.min.item(), quantizer.max.item()) == (low.item(), high.item()), site.name


@pytest.mark.parametrize("method", ANALYZERS)
def test_one_collection_serves_every_method(method):
    prepared = copy.deepcopy(_prepared())
    statistics = fxquant.collect_statistics(prepared, BATCHES, methods=list(METHODS))
    fxquant.apply_statistics(prepared, statistics, method)
    assert ranges(prepared) == ranges(calibrated(method))


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in ANALYZERS if name != "moving_average"])
def test_order_and_size_of_batches_do_not_matter(method):
    expected = ranges(calibrated(method))
    assert ranges(calibrated(method, BATCHES[::-1])) == expected
    assert calibrated(method, list(IMAGES.split(7))) is not None
    found = ranges(calibrated(method, list(IMAGES.split(48))))
    # torch sums a convolution in another order for another batch size: a value may leave its bin
    for name, (low, high) in found.items():
        assert (low, high) == pytest.approx(expected[name], abs=2 * (high - low) / 255), name


@pytest.mark.slow
@pytest.mark.parametrize("method", ANALYZERS)
def test_every_method_keeps_the_classifier_working(method):
    split = digits.split()
    quantized = fxquant.convert(calibrated(method, [split.train_images[:320]]))
    with torch.no_grad():
        found = (quantized(split.test_images).argmax(1) == split.test_labels).float().mean()
        wanted = (digits.float_model()(split.test_images).argmax(1) == split.test_labels).float().mean()
    cut = 0.03 if method == "percentile:97" else 0.01  # which clips 3 % of the values at either end
    assert found >= wanted - cut


def test_override_changes_the_tensors_that_it_names_and_no_other():
    plain, mixed = ranges(_minmax()), ranges(calibrated("minmax", overrides={"block1.*": "mse"}))
    other = ranges(calibrated("mse"))
    assert mixed != plain
    for name, found in mixed.items():
        assert found == (other if name.startswith("block1.") else plain)[name], name


def test_last_override_that_fits_counts():
    first = ranges(calibrated("minmax", overrides={"stem*": "mse", "*": "minmax"}))
    assert first == ranges(_minmax())


@pytest.mark.slow
@pytest.mark.parametrize("method", WEIGHT_METHODS)
def test_weights_have_methods_of_their_own_in_every_channel(method):
    sites = zip(weight_sites(calibrated("minmax", weights=method)), weight_sites(_minmax()), strict=True)
    pairs = [(site.quantizer.max.detach(), plain.quantizer.max.detach()) for site, plain in sites]
    for found, widest in pairs:
        assert found.shape == widest.shape
        assert (found <= 1.02 * widest).all()  # the widest grid that SQNR tries
        assert (found > widest / 4).all()
    assert (method == "minmax") == all(torch.equal(found, widest) for found, widest in pairs)


@pytest.mark.slow
def test_mse_of_weights_is_least_with_mse():
    def error(method):
        sites = weight_sites(calibrated("minmax", weights=method, overrides={"*": method}))
        return sum((site.quantizer(site.parameter) - site.parameter).square().sum().item() for site in sites)

    assert min(WEIGHT_METHODS, key=error) == "mse"


def test_override_of_a_weight_leaves_its_layers_activations():
    found = calibrated("minmax", overrides={"stem.weight": "mse"})
    assert ranges(found) == ranges(_minmax())
    changed = {
        site.name
        for site, plain in zip(weight_sites(found), weight_sites(_minmax()), strict=True)
        if not torch.equal(site.quantizer.max, plain.quantizer.max)
    }
    assert changed == {"stem.weight"}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["tensorrt:w4", "onnxruntime:w4"])
def test_weights_in_blocks_have_a_range_each(scheme):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 8)).eval()
    batch = torch.randn(4, 256)
    prepared = fxquant.prepare(model, batch, target=scheme)
    fxquant.calibrate(prepared, [batch], weights="mse")
    plain = fxquant.prepare(model, batch, target=scheme)
    fxquant.calibrate(plain, [batch])
    for site, other in zip(weight_sites(prepared), weight_sites(plain), strict=True):
        assert site.quantizer.block_size is not None
        weight = site.parameter.detach()
        errors = [(s.quantizer(weight) - weight).square().mean().item() for s in (site, other)]
        assert errors[0] < errors[1]


def test_float8_takes_min_max_where_a_method_is_for_even_grids():
    def maxima(method):
        model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128)).eval()
        torch.manual_seed(0)
        batch = torch.randn(4, 64)
        prepared = fxquant.prepare(model, batch, target="tensorrt:fp8")
        with torch.no_grad():
            for parameter in prepared.parameters():
                if parameter.requires_grad:
                    parameter.fill_(0.1)
        fxquant.calibrate(prepared, [batch], method)
        return [site.quantizer.maxval.item() for site in activation_sites(prepared)]

    assert maxima("mse") == maxima("minmax")
    assert maxima("percentile:90") < maxima("minmax")


def test_percentile_is_part_of_the_name():
    assert str(method_of("percentile:99.9")) == "percentile:99.9"
    assert method_of("percentile").percentile == 99.99


@pytest.mark.parametrize("text", ["max", "minmax:3", "percentile:", "percentile:40", "percentile:x", ""])
def test_unknown_methods_are_errors(text):
    with pytest.raises(OptionError):
        calibrated(text)


def test_override_that_fits_nothing_is_an_error_before_any_data_is_read():
    prepared = copy.deepcopy(_prepared())
    with pytest.raises(OptionError, match=r"'layer9\.\*' fits no quantized tensor"):
        fxquant.calibrate(prepared, iter(()), overrides={"layer9.*": "mse"})


@pytest.mark.parametrize("outlier", [5.0, 1e3, 1e4, 1e6])
def test_percentile_leaves_an_outlier_out_and_nothing_else(outlier):
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(0)).relu()
    statistics = TensorStatistics([Kind.HISTOGRAM])
    statistics.add(statistics.look(torch.cat((values, torch.tensor([outlier])))))
    analyzer = method_of("percentile:99.99").analyzer_for(statistics)
    _, high = analyzer.compute_encodings(255, False)
    wanted, width = torch.quantile(values, 0.9999).item(), outlier / 2048
    assert wanted <= high.item() <= wanted + max(width, 2.0**-8)


@pytest.mark.parametrize("method", ["percentile", "mse"])
def test_double_precision_is_counted_as_float32(method):
    model = nn.Sequential(nn.Linear(4, 4)).double().eval()
    batch = torch.linspace(0, 1 - 1e-9, 16, dtype=torch.float64).reshape(4, 4)
    prepared = fxquant.prepare(model, batch, target="qualcomm")
    assert fxquant.calibrate(prepared, [batch], method).num_batches == 1
