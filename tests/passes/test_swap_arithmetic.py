from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

import fxquant
from fxquant.arithmetic import KernelCall
from fxquant.errors import OptionError
from fxquant.graph import Report
from fxquant.passes import SwapArithmetic, convert_pipeline
from fxquant.targets import TARGETS, get_target

IMAGE = torch.linspace(-1.0, 1.0, 48).reshape(1, 3, 4, 4)
ROWS = IMAGE.reshape(-1, 4)


class Plain(nn.Module):
    """What has a kernel: weighted ops with and without an activation, a sum, a pool, a head in float."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.short, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(F.relu6(self.conv(x)) + self.short(x))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Products(nn.Module):
    """Products of activations and with a constant, tables, a number as an operand."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.softmax(x @ self.matrix, -1) * 2.0
        return torch.cat([torch.sigmoid(x) @ y.mT, F.leaky_relu(x)], 1)


class NoKernel(nn.Module):
    """A convolution read beside its quantizer, one behind a clip in use, ops without a formula."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.third = nn.ConvTranspose2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        y = F.hardtanh(self.second(x), -0.001, 0.001)
        return self.first(self.third(y)[:, :3]) + x.div(3.0)


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.relu(self.conv(x)))


MODELS = [
    pytest.param(Plain(), IMAGE, id="plain"),
    pytest.param(Products(), ROWS, id="products"),
    pytest.param(NoKernel(), IMAGE, id="no_kernel"),
    pytest.param(CalledTwice(), IMAGE, id="called_twice"),
]


@pytest.fixture
def frozen(calibrated: Callable[..., fx.GraphModule]) -> Callable[..., fx.GraphModule]:
    def run(model: nn.Module, x: torch.Tensor, target: str = "onnxruntime") -> fx.GraphModule:
        gm = calibrated(model, target, x)
        convert_pipeline(get_target(target)).run(gm, Report())
        return gm

    return run


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("model", "x"), MODELS)
def test_calls_between_quantizers_become_calls_of_kernels(
    model: nn.Module,
    x: torch.Tensor,
    target: str,
    request: pytest.FixtureRequest,
    frozen: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    name, _ = request.node.callspec.id.split("-")
    check_rewrite(frozen(model, x, target), SwapArithmetic(), f"{name}_for_{target}")


@pytest.mark.parametrize(("model", "x"), MODELS)
def test_kernels_differ_from_the_simulation_in_float_by_one_step_at_most(
    model: nn.Module, x: torch.Tensor, frozen: Callable[..., fx.GraphModule]
) -> None:
    gm = frozen(model, x)
    before = gm(x)
    SwapArithmetic()(gm, Report())
    scale = max(module.scale.max() for name, module in gm.named_modules() if name.startswith("quantizers."))
    assert (gm(x) - before).abs().max() <= 4 * scale  # one step of each of the ops in a row


def test_module_called_twice_has_a_kernel_for_each_call_and_one_weight(
    frozen: Callable[..., fx.GraphModule],
) -> None:
    gm = frozen(CalledTwice(), IMAGE)
    SwapArithmetic()(gm, Report())
    first, second = (module for module in gm.modules() if isinstance(module, KernelCall))
    assert first.called is second.called


def test_float_arithmetic_swaps_nothing(frozen: Callable[..., fx.GraphModule]) -> None:
    gm = frozen(Plain(), IMAGE)
    report = Report()
    assert not SwapArithmetic(arithmetic="float")(gm, report)


def test_unknown_arithmetic_is_refused(frozen: Callable[..., fx.GraphModule]) -> None:
    with pytest.raises(OptionError, match="no arithmetic 'integr'"):
        SwapArithmetic(arithmetic="integr")(frozen(Plain(), IMAGE), Report())


def test_report_of_a_model_names_what_has_no_kernel() -> None:
    prepared = fxquant.prepare(NoKernel(), target="onnxruntime")
    fxquant.calibrate(prepared, [IMAGE])
    text = str(fxquant.report(fxquant.convert(prepared, arithmetic="integer")))
    assert "simulated in float, 1 x conv_transpose2d: no integer formula for conv_transpose2d" in text
