"""HistogramCalibrator counts and searches as NVIDIA's, and along axes besides."""

import logging

import numpy as np
import pytest
import torch

from fxquant.compat.pytorch_quantization import calib
from fxquant.errors import OptionError, OptionTypeError, QuantizerError, UnsupportedError
from tests.quantization.encoding_analyzer.amax_definitions import entropy_kept, mse_bin

METHODS = ("entropy", "mse", "percentile")


def _batches(*widths: float, size: int = 4000) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator) * width for width in widths]


def _collected(batches: list[torch.Tensor], **options) -> calib.HistogramCalibrator:
    calibrator = calib.HistogramCalibrator(8, options.pop("axis", None), False, **options)
    for batch in batches:
        calibrator.collect(batch)
    return calibrator


def test_first_batch_is_torch_histc_from_zero_to_its_largest_magnitude() -> None:
    (x,) = _batches(1)
    calibrator = _collected([x])
    top = x.abs().max().item()
    assert torch.equal(calibrator._calib_hist, torch.histc(x.abs(), 2048, 0, top))
    assert torch.equal(calibrator._calib_bin_edges, torch.linspace(0, top, 2049))


def test_wider_batch_adds_bins_of_the_same_width() -> None:
    x, y = (batch.abs() for batch in _batches(1, 2.5))
    calibrator = _collected([x, y])
    edges = torch.linspace(0, x.max().item(), 2049)
    width = edges[1] - edges[0]
    num_bins = int((y.max() / width).ceil())
    edges = torch.arange(0, (y.max() + width).item(), width.item())
    hist = torch.histc(y, num_bins, 0, edges[-1].item())
    hist[:2048] += torch.histc(x, 2048, 0, x.max().item())
    assert num_bins > 2048
    assert torch.equal(calibrator._calib_bin_edges, edges)
    assert torch.equal(calibrator._calib_hist, hist)


def test_narrower_batch_is_counted_in_the_bins_there_are() -> None:
    x, y = _batches(1, 0.5)
    calibrator = _collected([x, y])
    top = x.abs().max().item()
    assert torch.equal(
        calibrator._calib_hist, torch.histc(x.abs(), 2048, 0, top) + torch.histc(y.abs(), 2048, 0, top)
    )


def test_numpys_histogram_begins_at_the_smallest_magnitude_and_grows() -> None:
    x, y = (batch.abs().numpy() for batch in _batches(1, 2))
    calibrator = _collected([torch.from_numpy(x), torch.from_numpy(y)], torch_hist=False, num_bins=30)
    hist, edges = np.histogram(x, bins=30)
    width = edges[1] - edges[0]
    edges = np.hstack((edges, np.arange(edges[-1] + width, y.max() + width, width)))
    expected, _ = np.histogram(y, bins=edges)
    expected[:30] += hist
    np.testing.assert_array_equal(calibrator._calib_hist, expected)
    np.testing.assert_array_equal(calibrator._calib_bin_edges, edges)


def test_amax_is_what_the_definitions_give_after_growing() -> None:
    calibrator = _collected(_batches(1, 1.7, 0.3), num_bins=100)
    hist, edges = calibrator._calib_hist.double().numpy(), calibrator._calib_bin_edges.numpy()
    best = mse_bin(hist, edges[: len(hist) + 1], 127, 20)
    center = (edges[best] + edges[best + 1]) / 2
    assert calibrator.compute_amax("mse", start_bin=20).item() == center
    hist[0] = hist[1]
    kept = entropy_kept(hist, 128, 128, 3)
    assert calibrator.compute_amax("entropy", stride=3).item() == edges[kept]


@pytest.mark.parametrize("method", METHODS)
def test_amax_is_a_float32_number_without_axes(method: str) -> None:
    amax = _collected(_batches(1)).compute_amax(method)
    assert (amax.shape, amax.dtype, amax.device.type) == ((), torch.float32, "cpu")


def test_numpys_histogram_keeps_what_entropy_makes_of_the_first_bin_and_torchs_does_not() -> None:
    for torch_hist in (True, False):
        calibrator = _collected([torch.cat((torch.zeros(500), *_batches(1)))], torch_hist=torch_hist)
        calibrator.compute_amax("entropy")
        assert bool(calibrator._calib_hist[0] == calibrator._calib_hist[1]) != torch_hist


def test_whole_numbers_are_taken_and_zeros_skipped() -> None:
    batches = [torch.tensor([0, 0, 0, 1, 2, 3, 4, 5]), torch.tensor([0, 0, 6, 7, 8, 9, 10])]
    for torch_hist in (True, False):
        amax = _collected(batches, skip_zeros=True, torch_hist=torch_hist).compute_amax(
            "percentile", percentile=50
        )
        assert abs(amax.item() - 5) < 10 / 2048


def test_batch_of_zeros_does_not_stop_later_ones() -> None:
    calibrator = _collected([torch.zeros(9)])
    assert [calibrator.compute_amax(method).item() for method in METHODS] == [0, 0, 0]
    calibrator.collect(torch.rand(100, generator=torch.Generator().manual_seed(0)))
    assert calibrator._calib_hist.sum() == 109
    assert calibrator.compute_amax("percentile", percentile=100) > 0.9


def test_tensor_without_elements_changes_nothing() -> None:
    calibrator = _collected([torch.zeros(0), torch.zeros(0, 4)])
    assert calibrator.compute_amax("mse") is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", [1, -3, (1,)])
def test_each_channel_gets_what_a_calibrator_of_its_own_finds(method: str, axis) -> None:
    generator = torch.Generator().manual_seed(0)
    scales = [torch.rand(20, 1, 1, generator=generator) + 0.2 for _ in range(3)]
    batches = [torch.randn(4, 20, 9, 9, generator=generator) * scale for scale in scales]
    batches[0][:, 3] = 0
    calibrator = _collected(batches, axis=axis, num_bins=300)
    alone = [_collected([x[:, channel] for x in batches], num_bins=300) for channel in range(20)]
    amax = calibrator.compute_amax(method)
    assert amax.shape == (1, 20, 1, 1)
    assert amax.flatten().tolist() == [one.compute_amax(method).item() for one in alone]


def test_each_channel_skips_its_zeros() -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(20, 400, generator=generator) for _ in range(2)]
    for batch in batches:
        batch[batch < 0.6] = 0
    batches[0][3] = 0
    calibrator = _collected(batches, axis=0, num_bins=300, skip_zeros=True)
    alone = [_collected([x[row] for x in batches], num_bins=300, skip_zeros=True) for row in range(20)]
    for method in METHODS:
        found = calibrator.compute_amax(method, percentile=10).flatten().tolist()
        assert found == [one.compute_amax(method, percentile=10).item() for one in alone]


def test_per_channel_amax_is_shaped_as_that_of_the_max_calibrator() -> None:
    x = torch.rand(3, 4, 5)
    for axis in (0, (0, 1), (0, 2)):
        peak = calib.MaxCalibrator(8, axis, False)
        peak.collect(x)
        found = _collected([x], axis=axis, num_bins=200).compute_amax("percentile", percentile=100)
        assert found.shape == peak.compute_amax().shape


def test_nothing_collected_has_no_amax_and_reset_forgets() -> None:
    calibrator = _collected(_batches(1))
    calibrator.reset()
    assert calibrator.compute_amax("entropy") is None


def test_errors_have_the_types_and_words_of_the_original() -> None:
    calibrator = _collected(_batches(1))
    for percentile in (-10, 200):
        with pytest.raises(OptionError, match="range"):
            calibrator.compute_amax("percentile", percentile=percentile)
    with pytest.raises(OptionTypeError, match="Unknown calibration method"):
        calibrator.compute_amax("median")
    with pytest.raises(OptionError, match="start_bin"):
        _collected(_batches(1), num_bins=100).compute_amax("mse")
    with pytest.raises(UnsupportedError, match="torch_hist"):
        calib.HistogramCalibrator(8, 0, False, torch_hist=False)
    by_channel = _collected([torch.rand(3, 4)], axis=0)
    with pytest.raises(QuantizerError, match="shape changed"):
        by_channel.collect(torch.rand(4, 4))


def test_grow_method_is_deprecated(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        calib.HistogramCalibrator(8, None, False, grow_method="stretch")
    assert "deprecated" in caplog.text


def test_text_shows_the_edges() -> None:
    calibrator = _collected([torch.tensor([0.0, 2.0])], num_bins=4)
    assert str(calibrator) == "HistogramCalibrator(calib_bin_edges=[0.000, ..., 2.000](5))"
    assert "num_bits=8 axis=None unsigned=False" in repr(calibrator)
    assert str(calib.HistogramCalibrator(8, None, True)) == "HistogramCalibrator(calib_bin_edges=None)"


@pytest.mark.cuda
def test_histograms_on_a_gpu_give_the_amax_of_the_cpu() -> None:
    batches = _batches(1, 2)
    here, there = _collected(batches), _collected([batch.cuda() for batch in batches])
    assert there._calib_hist.device.type == "cuda"
    for method in METHODS:
        assert here.compute_amax(method) == there.compute_amax(method)
