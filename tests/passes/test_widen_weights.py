"""Weight ranges of channels whose int32 accumulator would overflow are widened, others are left alone."""

import pytest
import torch
from torch import nn

import fxquant
from fxquant.graph import Report
from fxquant.passes import WidenWeights
from tests import digits


def calibrated(target: str, weight: float) -> nn.Module:
    """A calibrated convolution whose first channel has weights of one size and a bias of 3."""
    conv = nn.Conv2d(8, 4, 3)
    nn.init.constant_(conv.weight[0], weight)
    nn.init.constant_(conv.bias[0], 3.0)
    prepared = fxquant.prepare(nn.Sequential(conv, nn.ReLU()).eval(), target=target)
    fxquant.calibrate(prepared, [torch.rand(2, 8, 6, 6)])
    return prepared


def scales(prepared: nn.Module) -> torch.Tensor:
    return prepared.get_submodule("0").param_quantizers["weight"].get_scale().detach().flatten()


@pytest.mark.parametrize("target", digits.TARGETS)
def test_only_the_channel_that_would_overflow_is_widened(target: str) -> None:
    prepared, report = calibrated(target, 1e-6), Report()
    before = scales(prepared)
    assert WidenWeights()(prepared, report)
    assert scales(prepared)[0] > before[0]
    assert torch.equal(scales(prepared)[1:], before[1:])
    assert [site.layer for site in report.applied("widen-weights")] == ["0"]


@pytest.mark.parametrize("target", digits.TARGETS)
def test_accumulator_fits_int32_afterwards(target: str) -> None:
    prepared = calibrated(target, 0.0)
    WidenWeights()(prepared, Report())
    conv, source = prepared.get_submodule("0"), prepared.get_submodule("quantizers.input").get_encodings()
    bias = conv.bias.detach().abs().double() / (source.scale.double() * scales(prepared).double())
    products = (
        source.num_steps * conv.weight.detach().abs().double().flatten(1).sum(1) / scales(prepared).double()
    )
    assert ((bias + products) < 2**31).all()


@pytest.mark.parametrize("target", digits.TARGETS)
def test_ordinary_layer_is_left_alone(target: str) -> None:
    prepared = calibrated(target, 0.1)
    before = scales(prepared)
    assert not WidenWeights()(prepared, Report())
    assert torch.equal(scales(prepared), before)
