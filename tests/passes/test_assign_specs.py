from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.errors import OptionError
from fxquant.graph import Report, capture
from fxquant.passes import AssignSpecs
from fxquant.passes.assignment import assignment_of
from fxquant.targets import TARGETS


class Vision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(2, 4, 1), nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.norm, self.pool = nn.BatchNorm2d(4), nn.MaxPool2d(2)
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.conv(self.norm(x)))
        y = self.pool(F.silu(self.up(y)))
        y = torch.cat([y, F.gelu(y)], 1)
        gate = torch.sigmoid(F.adaptive_avg_pool2d(y, 1))
        return self.fc((y * gate + y).flatten(1))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(9, 4), nn.LayerNorm(4)
        self.qkv, self.head = nn.Linear(4, 12), nn.Parameter(torch.zeros(4, 9))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(ids))
        q, k, v = self.qkv(x).split(4, dim=-1)
        weights = torch.softmax(q @ k.transpose(1, 2) / x.shape[-1] ** 0.5, dim=-1)
        return torch.bmm(weights, v).reshape(x.size(0), -1, 4) @ self.head


class Constants(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_weight, self.bias = nn.Parameter(torch.zeros(2, 2, 1, 1)), nn.Parameter(torch.zeros(2))
        self.left = nn.Parameter(torch.zeros(3, 3))
        self.register_buffer("shift", torch.zeros(3))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.conv2d(x, self.conv_weight, self.bias)
        y = self.left @ y
        return (y + self.shift) * 2.0 + self.count


class DynamicWeight(nn.Module):
    def forward(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.linear(x, weight * 2)


class OwnConv(nn.Conv2d):
    pass


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.RNNCell(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.erfinv(self.cell(x, x)).cumprod(0)


class ScaledBySize(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x.size(-1)


class TimesVector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.vector


class TimesTransposed(nn.Module):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x @ y.mT


class AddsIndices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.embed(ids.long() + ids.argmax(0))


MODELS = [
    pytest.param(Vision(), id="vision"),
    pytest.param(Tokens(), id="tokens"),
    pytest.param(Constants(), id="constants"),
    pytest.param(DynamicWeight(), id="dynamic_weight"),
    pytest.param(Unknown(), id="unknown_ops"),
    pytest.param(OwnConv(2, 2, 1), id="model_is_a_layer"),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", MODELS)
def test_operands_get_the_specs_of_the_targets_table(
    model: nn.Module,
    target: str,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    name, _ = request.node.callspec.id.split("-")
    check_rewrite(captured(model), AssignSpecs(target=target), f"{name}_for_{target}")


def test_assigning_for_another_target_replaces_what_was_assigned(
    captured: Callable[..., fx.GraphModule], check_rewrite: Callable[..., Report]
) -> None:
    gm = captured(Vision(), "assign-specs{target=onnxruntime}")
    check_rewrite(gm, AssignSpecs(target="tensorrt"), "vision_for_tensorrt_after_onnxruntime")


def test_target_that_does_not_exist_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(OptionError, match="Did you mean 'tensorrt'"):
        AssignSpecs(target="tensort")(capture(Vision()), Report())


@pytest.mark.parametrize("target", TARGETS)
def test_product_with_a_size_stays_float(target: str) -> None:
    gm = capture(ScaledBySize())
    AssignSpecs(target=target)(gm, Report())
    assert assignment_of(gm.graph.output_node().all_input_nodes[0]) is None


@pytest.mark.parametrize("target", TARGETS)
def test_vector_operand_of_a_matmul_has_one_scale(target: str) -> None:
    gm = capture(TimesVector())
    AssignSpecs(target=target)(gm, Report())
    assignment = assignment_of(gm.graph.output_node().all_input_nodes[0])
    assert assignment is not None
    assert assignment.inputs["vector"].channel_axis is None


@pytest.mark.parametrize("target", TARGETS)
def test_both_operands_of_a_matmul_are_quantized_when_one_is_transposed_by_attribute(target: str) -> None:
    gm = capture(TimesTransposed())
    AssignSpecs(target=target)(gm, Report())
    assignment = assignment_of(gm.graph.output_node().all_input_nodes[0])
    assert assignment is not None
    assert len(assignment.inputs) == 2
