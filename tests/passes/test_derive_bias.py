from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.passes import DeriveBias, parse
from fxquant.quantization.affine import FrozenDequantize, QuantizeDequantize

EPS = torch.finfo(torch.float32).eps


class ConvAndLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.last = nn.Conv2d(3, 5, 1), nn.Linear(5, 4), nn.Linear(4, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(F.relu(self.fc(F.relu(self.conv(x)).mean((2, 3)))))


class SameInputTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * self.conv(x)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.relu(self.conv(x)))


def zero_channel() -> ConvAndLinear:
    """Return a model with a channel of zeros and a bias that int32 cannot hold at the scale of zeros."""
    model = ConvAndLinear()
    nn.init.zeros_(model.conv.weight[0])
    nn.init.constant_(model.conv.bias[:1], 1000.0)
    return model


def small_channel() -> ConvAndLinear:
    """Return a model with a channel as folding a batch norm of little variance leaves it: nearly constant."""
    model = ConvAndLinear()
    nn.init.constant_(model.conv.weight[0], 2e-5)
    nn.init.constant_(model.conv.bias[:1], 3.0)
    return model


X = torch.linspace(-1.0, 1.0, 48).reshape(1, 3, 4, 4)


def scale_of(gm: fx.GraphModule, path: str) -> torch.Tensor:
    quantizer = gm.get_submodule(path)
    assert isinstance(quantizer, QuantizeDequantize)
    scale = quantizer.get_scale()
    assert scale is not None
    return scale.detach().clone()


def bias_of(gm: fx.GraphModule, path: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the integer codes and the scale of a layer's bias."""
    module = gm.get_submodule(path)
    quantizer = module.param_quantizers.bias
    assert isinstance(quantizer, FrozenDequantize)
    return module.bias, quantizer.scale


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(ConvAndLinear(), id="conv_and_linear"),
        pytest.param(SameInputTwice(), id="same_input_twice"),
        pytest.param(TwoInputs(), id="two_inputs"),
    ],
)
def test_biases_are_stored_as_integers_where_the_input_has_one_scale(
    model: nn.Module,
    request: pytest.FixtureRequest,
    calibrated: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(calibrated(model, "onnxruntime", X), DeriveBias(), request.node.callspec.id)


@pytest.mark.parametrize(
    ("layer", "source"),
    [
        pytest.param("conv", "quantizers.x", id="conv"),
        pytest.param("fc", "quantizers.mean", id="linear"),
    ],
)
def test_scale_is_exactly_the_product_of_the_input_and_weight_scales(
    layer: str, source: str, calibrated: Callable[..., fx.GraphModule]
) -> None:
    gm = calibrated(ConvAndLinear(), "onnxruntime", X)
    product = scale_of(gm, source) * scale_of(gm, f"{layer}.param_quantizers.weight").reshape(-1)
    parse("widen-weights,derive-bias").run(gm, Report())
    codes, scale = bias_of(gm, layer)
    assert scale.dtype == torch.float32
    assert torch.equal(scale, product)
    assert codes.dtype == torch.int32


@pytest.mark.parametrize("make", [ConvAndLinear, zero_channel], ids=["plain", "channel of zeros"])
def test_bias_lies_within_half_a_step_of_what_it_was(
    make: Callable[[], nn.Module], calibrated: Callable[..., fx.GraphModule]
) -> None:
    gm = calibrated(make(), "onnxruntime", X)
    before = gm.conv.bias.detach().clone()
    parse("widen-weights,derive-bias").run(gm, Report())
    codes, scale = bias_of(gm, "conv")
    # Half a step, and what float32 can tell of the bias: it has fewer digits than int32.
    bound = scale.double() / 2 + EPS * before.abs().double()
    assert ((codes.double() * scale.double() - before.double()).abs() <= bound).all()


@pytest.mark.parametrize(
    "make", [zero_channel, small_channel], ids=["channel of zeros", "channel of small weights"]
)
def test_sum_of_products_and_bias_fits_the_accumulator(
    make: Callable[[], nn.Module], calibrated: Callable[..., fx.GraphModule]
) -> None:
    gm = calibrated(make(), "onnxruntime", X)
    parse("widen-weights,derive-bias").run(gm, Report())
    codes, _ = bias_of(gm, "conv")
    weight = gm.conv.param_quantizers.weight.get_encodings().to_integers(gm.conv.weight.detach())
    products = 255 * weight.long().abs().sum((1, 2, 3))
    assert (codes.long().abs() + products).max() < 2**31


def test_only_the_channel_that_needs_room_gets_another_weight_scale(
    calibrated: Callable[..., fx.GraphModule],
) -> None:
    gm = calibrated(zero_channel(), "onnxruntime", X)
    before = scale_of(gm, "conv.param_quantizers.weight").reshape(-1)
    parse("widen-weights,derive-bias").run(gm, Report())
    after = scale_of(gm, "conv.param_quantizers.weight").reshape(-1)
    assert (after > before).tolist() == [True, False, False, False, False]
    assert torch.equal(after[1:], before[1:])


def test_layer_called_on_two_inputs_keeps_its_float_bias(calibrated: Callable[..., fx.GraphModule]) -> None:
    gm = calibrated(TwoInputs(), "onnxruntime", X)
    before = gm.conv.bias
    parse("widen-weights,derive-bias").run(gm, Report())
    assert gm.conv.bias is before
