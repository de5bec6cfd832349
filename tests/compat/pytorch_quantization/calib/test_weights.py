"""calibrate_weights finds what numpy's histograms and NVIDIA's searches give channel by channel."""

import numpy as np
import pytest
import torch
from torch import nn

from fxquant.compat.pytorch_quantization.calib import HistogramCalibrator, calibrate_weights
from fxquant.compat.pytorch_quantization.nn import TensorQuantizer
from fxquant.errors import OptionTypeError
from fxquant.quantization.encoding_analyzer.magnitude_histogram import even_histograms
from tests.quantization.encoding_analyzer.amax_definitions import mse_bin


def _model(*modules: nn.Module) -> nn.Sequential:
    for module in modules:
        module.weight_quantizer = TensorQuantizer()
    return nn.Sequential(*modules, nn.Linear(2, 2))


def _layers() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Conv2d(6, 8, 5), nn.ConvTranspose2d(6, 8, 5), nn.Linear(40, 8)]


def _channels(module: nn.Module) -> torch.Tensor:
    axis = int(isinstance(module, nn.ConvTranspose2d))
    return module.weight.detach().movedim(axis, 0).flatten(1)


SHAPES = [(8, 1, 1, 1), (1, 8, 1, 1), (8, 1)]


@pytest.mark.parametrize("num_bins", [19, 2048])
def test_even_histograms_are_numpys(num_bins: int) -> None:
    rows = torch.randn(30, 700, generator=torch.Generator().manual_seed(0)).abs()
    rows[3], rows[4], rows[5] = 0, 2.0, rows[5].round()
    counts, edges = even_histograms(rows, num_bins)
    for row, own_counts, own_edges in zip(rows.numpy(), counts, edges, strict=True):
        hist, bins = np.histogram(row, bins=num_bins, range=(0, row.max()))
        np.testing.assert_array_equal(own_counts, hist)
        np.testing.assert_array_equal(own_edges, bins)


def test_max_is_the_largest_magnitude_of_each_channel() -> None:
    layers = _layers()
    calibrate_weights(_model(*layers), method="max")
    for module, shape in zip(layers, SHAPES, strict=True):
        amax = module.weight_quantizer.amax
        assert amax.shape == shape
        assert torch.equal(amax.flatten(), _channels(module).abs().amax(dim=1))


@pytest.mark.parametrize("percentile", [99.0, 99.99])
def test_percentile_is_that_of_a_calibrator_for_each_channel(percentile: float) -> None:
    layers = _layers()
    calibrate_weights(_model(*layers), percentile=percentile)
    for module, shape in zip(layers, SHAPES, strict=True):
        assert module.weight_quantizer.amax.shape == shape
        for channel, amax in zip(_channels(module), module.weight_quantizer.amax.flatten(), strict=True):
            calibrator = HistogramCalibrator(8, None, False)
            calibrator.collect(channel)
            assert calibrator.compute_amax("percentile", percentile=percentile) == amax


def test_mse_is_that_of_the_definition_for_each_channel() -> None:
    layers = _layers()
    calibrate_weights(_model(*layers), method="mse", num_bins=200)
    for module in layers:
        for channel, amax in zip(_channels(module), module.weight_quantizer.amax.flatten(), strict=True):
            values = channel.abs().numpy()
            hist, edges = np.histogram(values, bins=200, range=(0, values.max()))
            best = mse_bin(hist, edges, 127, 128)
            assert amax.item() == (edges[best] + edges[best + 1]) / 2


@pytest.mark.parametrize("method", ["max", "mse", "percentile"])
def test_one_amax_for_a_weight_has_no_axes(method: str) -> None:
    layers = _layers()
    calibrate_weights(_model(*layers), method=method, perchannel=False)
    assert [module.weight_quantizer.amax.shape for module in layers] == [(), (), ()]
    assert all(module.weight_quantizer.amax > 0.04 for module in layers)


def test_channel_of_zeros_has_an_amax_of_zero() -> None:
    layer = nn.Linear(40, 8)
    layer.weight.data[3] = 0
    for method in ("mse", "percentile"):
        calibrate_weights(_model(layer), method=method)
        amax = layer.weight_quantizer.amax.flatten()
        assert amax[3] == 0
        assert amax.count_nonzero() == 7


def test_unknown_method_is_a_type_error() -> None:
    with pytest.raises(OptionTypeError, match="Unsupported calibration method entropy"):
        calibrate_weights(_model(nn.Linear(2, 2)), method="entropy")
