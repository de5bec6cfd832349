from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.nn import QuantizationMixin, QuantizedConv2d, QuantizedLinear
from fxquant.passes import SwapModules, parse
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.targets import TARGETS

PREPARED = {
    "tensorrt": "assign-specs,assign-residual-branches,legalize-outputs,share-encodings,insert-quantizers",
    **{
        name: f"assign-specs{{target={name}}},assign-outputs{{target={name}}},share-encodings,"
        "insert-quantizers"
        for name in ("qualcomm", "onnxruntime", "openvino", "generic")
    },
}


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(4, 4, 1), nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(4, 2, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.pool(self.up(F.relu(self.conv(x)))).flatten(1))


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.fc(x)))


class OneConv(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class ByKeyword(OneConv):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(input=x)


class PlainSubclass(nn.Conv2d):
    pass


class OwnForward(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * 2.0


class OwnConvForward(nn.Conv2d):
    """Standardizes its weight, in the method that nn.Conv2d.forward calls."""

    def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return super()._conv_forward(x, weight - weight.mean(), bias)


def quantizer_of(module: nn.Module) -> QuantizeDequantize:
    assert isinstance(module, QuantizationMixin)
    quantizer = module.param_quantizers["weight"]
    assert isinstance(quantizer, QuantizeDequantize)
    return quantizer


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(Layers(), id="layers"),
        pytest.param(Reused(), id="reused_layer"),
        pytest.param(OneConv(PlainSubclass(4, 4, 1)), id="subclass_without_a_forward"),
    ],
)
def test_layers_that_run_quantized_are_swapped(
    model: nn.Module,
    target: str,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    name, _ = request.node.callspec.id.split("-")
    check_rewrite(captured(model, PREPARED[target]), SwapModules(), f"{name}_for_{target}")


def test_subclass_with_its_own_forward_is_left_as_it_is(
    captured: Callable[..., fx.GraphModule], check_rewrite: Callable[..., Report]
) -> None:
    gm = captured(OneConv(nn.Conv2d(4, 4, 1)))
    gm.set_submodule("conv", OwnForward(4, 4, 1))
    parse(PREPARED["tensorrt"]).run(gm, Report())
    check_rewrite(gm, SwapModules(), "own_forward")


def test_layer_reached_by_two_paths_is_swapped_at_both_for_one_module(
    captured: Callable[..., fx.GraphModule],
) -> None:
    gm = captured(Reused())
    gm.add_submodule("again", gm.fc)
    gm.graph.find_nodes(op="call_module", target="fc")[1].target = "again"
    parse(f"{PREPARED['tensorrt']},swap-modules").run(gm, Report())
    assert isinstance(gm.fc, QuantizedLinear)
    assert gm.again is gm.fc


def test_layer_called_twice_is_swapped_and_reported_once(captured: Callable[..., fx.GraphModule]) -> None:
    gm, report = captured(Reused(), PREPARED["tensorrt"]), Report()
    SwapModules()(gm, report)
    assert [str(site) for site in report.sites] == [
        "swap-modules: applied linear at 'fc': now a QuantizedLinear"
    ]


def test_swapped_layer_keeps_its_parameters_and_hooks(captured: Callable[..., fx.GraphModule]) -> None:
    gm = captured(Layers(), PREPARED["tensorrt"])
    weight, bias = gm.conv.weight, gm.conv.bias
    gm.conv.register_forward_hook(lambda module, inputs, output: None)
    SwapModules()(gm, Report())
    assert gm.conv.weight is weight
    assert gm.conv.bias is bias
    assert len(gm.conv._forward_hooks) == 1


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        pytest.param("conv", (4, 1, 1, 1), id="conv"),
        pytest.param("fc", (2, 1), id="linear"),
        pytest.param("up", (), id="transposed conv (P20)"),
    ],
)
def test_weight_quantizer_has_one_range_per_output_channel(
    path: str, shape: tuple[int, ...], captured: Callable[..., fx.GraphModule]
) -> None:
    gm = captured(Layers(), f"{PREPARED['tensorrt']},swap-modules")
    assert quantizer_of(gm.get_submodule(path)).shape == shape


def test_module_that_is_quantized_already_is_left_as_it_is(
    captured: Callable[..., fx.GraphModule],
) -> None:
    conv = QuantizedConv2d(4, 4, 1)
    gm = captured(OneConv(conv), PREPARED["tensorrt"])
    before = gm.conv
    SwapModules()(gm, Report())
    assert gm.conv is before


@pytest.mark.parametrize("target", TARGETS)
def test_subclass_with_its_own_conv_forward_computes_what_it_did(
    target: str, calibrated: Callable[..., fx.GraphModule]
) -> None:
    conv, x = OwnConvForward(4, 4, 3), torch.rand(1, 4, 5, 5)
    nn.init.uniform_(conv.weight)
    exact = conv(x)
    bound = 0.1 * exact.abs().max()  # far above the error of one layer of 8 bits
    assert (calibrated(OneConv(conv), target, x)(x) - exact).abs().max() < bound


@pytest.mark.parametrize("target", TARGETS)
def test_parametrized_layer_runs(target: str, calibrated: Callable[..., fx.GraphModule]) -> None:
    conv, x = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)), torch.rand(1, 4, 5, 5)
    calibrated(OneConv(conv), target, x)(x)


@pytest.mark.parametrize("target", TARGETS)
def test_layer_called_with_a_keyword_runs(target: str, calibrated: Callable[..., fx.GraphModule]) -> None:
    x = torch.rand(1, 4, 5, 5)
    calibrated(ByKeyword(nn.Conv2d(4, 4, 1)), target, x)(x)
