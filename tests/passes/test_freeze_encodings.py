from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

import fxquant
from fxquant.errors import NotCalibratedError
from fxquant.graph import Report
from fxquant.passes import FreezeEncodings
from fxquant.quantization.affine import FrozenQuantizeDequantize
from fxquant.targets import TARGETS
from tests.zoo import small_models

IMAGE = torch.linspace(-1.0, 1.0, 48).reshape(1, 3, 4, 4)
ROWS = IMAGE.reshape(-1, 4)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.conv(x)).mean((2, 3)))


class Constants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(4, 4))
        self.register_buffer("table", torch.randn(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.matrix) @ self.table


class ConstantReadTwice(Constants):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.matrix @ self.matrix


class ConstantReadInFloatToo(Constants):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.matrix * torch.erf(self.matrix).sum()


class SharedGrid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cat([self.left(x), self.right(x)], 1))


class TiedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(F.relu(self.first(x)))


class BufferOnBothSides(Constants):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.table) + (self.table @ x)


class Inner(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.register_parameter(name, nn.Parameter(torch.randn(4, 4)))


class NamesThatMeet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.a_b = Inner("b_c"), Inner("c")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x @ self.a.b_c) @ self.a_b.c


class WeightReadInFloatToo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x) + self.fc.weight.sum(1)


MODELS = [
    pytest.param(Plain(), IMAGE, id="plain"),
    pytest.param(Constants(), ROWS, id="constants"),
    pytest.param(ConstantReadTwice(), ROWS, id="constant_read_twice"),
    pytest.param(ConstantReadInFloatToo(), ROWS, id="constant_read_in_float_too"),
    pytest.param(SharedGrid(), IMAGE, id="shared_grid"),
    pytest.param(TiedWeights(), ROWS, id="tied_weights"),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("model", "x"), MODELS)
def test_encodings_are_fixed_and_weights_and_constants_become_integers(
    model: nn.Module,
    x: torch.Tensor,
    target: str,
    request: pytest.FixtureRequest,
    calibrated: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    name, _ = request.node.callspec.id.split("-")
    check_rewrite(calibrated(model, target, x), FreezeEncodings(), f"{name}_for_{target}")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", small_models.NAMES)
def test_frozen_model_computes_bit_for_bit_what_the_calibrated_one_does(
    name: str, target: str, calibrated: Callable[..., fx.GraphModule]
) -> None:
    model, inputs = small_models.build(name)
    gm = calibrated(model, target, *inputs)
    before = gm(*inputs)
    FreezeEncodings()(gm, Report())
    assert torch.equal(gm(*inputs), before)


@pytest.mark.parametrize("target", TARGETS)
def test_weights_of_layers_are_stored_as_int8(target: str, calibrated: Callable[..., fx.GraphModule]) -> None:
    gm = calibrated(Plain(), target, IMAGE)
    FreezeEncodings()(gm, Report())
    assert (gm.conv.weight.dtype, gm.fc.weight.dtype) == (torch.int8, torch.int8)
    assert {name for name, _ in gm.named_parameters()} == {"conv.bias", "fc.bias"}


@pytest.mark.parametrize("target", TARGETS)
def test_constants_are_stored_as_int8(target: str, calibrated: Callable[..., fx.GraphModule]) -> None:
    gm = calibrated(Constants(), target, ROWS)
    FreezeEncodings()(gm, Report())
    assert {name: tensor.dtype for name, tensor in gm.named_buffers() if "codes" in name} == {
        "matrix_codes": torch.int8,
        "table_codes": torch.int8,
    }


def test_quantizer_reached_by_two_paths_stays_one_module(calibrated: Callable[..., fx.GraphModule]) -> None:
    gm = calibrated(SharedGrid(), "tensorrt", IMAGE)
    gm.add_submodule("quantizers.again", gm.get_submodule("quantizers.left"))
    gm.graph.find_nodes(op="call_module", target="quantizers.left")[1].target = "quantizers.again"
    FreezeEncodings()(gm, Report())
    assert isinstance(gm.get_submodule("quantizers.again"), FrozenQuantizeDequantize)
    assert gm.get_submodule("quantizers.again") is gm.get_submodule("quantizers.left")


def test_tied_weights_get_the_same_codes(calibrated: Callable[..., fx.GraphModule]) -> None:
    gm = calibrated(TiedWeights(), "tensorrt", ROWS)
    FreezeEncodings()(gm, Report())
    assert torch.equal(gm.first.weight, gm.second.weight)


def test_quantizer_without_a_range_is_refused_with_its_layer() -> None:
    prepared = fxquant.prepare(SharedGrid(), target="onnxruntime")
    prepared.get_submodule("quantizers.x").set_range(-1.0, 1.0)
    with pytest.raises(NotCalibratedError) as caught:
        FreezeEncodings()(prepared, Report())
    assert caught.value.layer == "left"


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "model",
    [
        pytest.param(BufferOnBothSides(), id="buffer with a scale per row and one per column"),
        pytest.param(NamesThatMeet(), id="a.b_c and a_b.c"),
    ],
)
def test_every_constant_keeps_its_own_codes(
    model: nn.Module, target: str, calibrated: Callable[..., fx.GraphModule]
) -> None:
    x = torch.randn(4, 4)
    gm = calibrated(model, target, x)
    before = gm(x)
    FreezeEncodings()(gm, Report())
    assert torch.equal(gm(x), before)


@pytest.mark.parametrize("target", TARGETS)
def test_weight_of_a_layer_that_is_read_in_float_too_keeps_its_values(
    target: str, calibrated: Callable[..., fx.GraphModule]
) -> None:
    x = torch.randn(3, 4)
    gm = calibrated(WeightReadInFloatToo(), target, x)
    before = gm(x)
    FreezeEncodings()(gm, Report())
    assert torch.equal(gm(x), before)
