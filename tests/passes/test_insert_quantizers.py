from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report, graph_text
from fxquant.graph.annotations import TENSOR
from fxquant.passes import InsertQuantizers
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.targets import TARGETS

FIRST = "canonicalize,remove-noop,fold-batch-norm"
BEFORE = {
    "tensorrt": f"{FIRST},assign-specs,assign-residual-branches,legalize-outputs,share-encodings",
    **{
        name: f"{FIRST},assign-specs{{target={name}}},assign-outputs{{target={name}}},share-encodings"
        for name in ("qualcomm", "onnxruntime", "openvino", "generic")
    },
}


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.wide, self.fc = nn.Conv2d(8, 4, 1), nn.Linear(4, 4)
        self.matrix = nn.Parameter(torch.zeros(4, 6))
        self.register_buffer("shift", torch.zeros(4))


class SeveralReaders(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.conv1(x))
        return self.conv2(y) + F.max_pool2d(y, 1) * y


class ModuleCalledTwice(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.fc(self.fc(x)))


class FunctionUsedTwice(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.silu(self.conv1(F.silu(self.conv1(x)))))


class SeveralInputs(Layers):
    def forward(self, x: torch.Tensor, unused: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.conv1(x) + self.conv2(y)


class Sizes(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.view(x.shape[0], -1, 4)
        half = x.size(1) // 2
        return self.fc(rows).reshape(x.size(0) * half, -1)


class Constants(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x @ self.matrix, F.linear(x, self.fc.weight) + self.shift], 1)


class ParameterOnTheLeft(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.matrix @ x


class SharedGrid(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        return self.wide(torch.cat([F.max_pool2d(y, 3, 1, 1), y], 1))


class Split(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.wide(x).chunk(2, 1)
        return self.fc(first.transpose(1, 3)[..., :2].repeat(1, 1, 1, 2)) * self.fc(second.flatten(1))


class HandsOutInt8ToFloat(Layers):
    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        product = x * y
        return self.conv1(product) + torch.erf(product)


class FixedAndMeasured(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv1(x * torch.sigmoid(self.conv2(x)))


class InputNamed(Layers):
    def forward(self, half: torch.Tensor) -> torch.Tensor:
        return self.conv1(half)


class WritesInPlace(Layers):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv1(x)
        y.masked_fill_(x < 0.0, 5.0)
        return self.conv2(y)


class Masked(Layers):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.conv1(x * mask)


class Scaled(Layers):
    def forward(self, x: torch.Tensor, factor: float = 0.5) -> torch.Tensor:
        return self.conv1(x * factor)


class OffsetIndices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)

    def forward(self, ids: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        return self.embed(ids + offsets)


X = torch.linspace(-1.0, 1.0, 36).reshape(1, 4, 3, 3)

MODELS = [
    pytest.param(SeveralReaders(), id="several_readers"),
    pytest.param(ModuleCalledTwice(), id="module_called_twice"),
    pytest.param(FunctionUsedTwice(), id="function_used_twice"),
    pytest.param(SeveralInputs(), id="several_inputs"),
    pytest.param(Sizes(), id="sizes"),
    pytest.param(Constants(), id="constants"),
    pytest.param(ParameterOnTheLeft(), id="parameter_on_the_left"),
    pytest.param(SharedGrid(), id="shared_grid"),
    pytest.param(Split(), id="split"),
    pytest.param(HandsOutInt8ToFloat(), id="hands_out_int8_to_float"),
    pytest.param(FixedAndMeasured(), id="fixed_and_measured"),
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("model", MODELS)
def test_quantizers_stand_where_tensors_are_read_quantized(
    model: nn.Module,
    target: str,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    name, _ = request.node.callspec.id.split("-")
    check_rewrite(captured(model, BEFORE[target]), InsertQuantizers(), f"{name}_for_{target}")


def test_every_call_of_a_quantizer_knows_its_tensor(captured: Callable[..., fx.GraphModule]) -> None:
    gm = captured(ModuleCalledTwice(), f"{BEFORE['tensorrt']},insert-quantizers")
    tensors = [node.meta.get(TENSOR) for node in gm.graph.find_nodes(op="call_module")]
    assert tensors == ["x", None, "fc", None, "fc_1", None]


@pytest.mark.parametrize(
    ("model", "path", "shape"),
    [
        pytest.param(Constants(), "quantizers.matrix", (1, 6), id="columns of a right operand"),
        pytest.param(ParameterOnTheLeft(), "quantizers.matrix", (4, 1), id="rows of a left operand"),
        pytest.param(Constants(), "quantizers.fc_weight", (4, 1), id="outputs of a linear weight"),
        pytest.param(Constants(), "quantizers.x", (), id="activation"),
    ],
)
def test_parameter_operand_has_a_scale_per_channel(
    model: nn.Module, path: str, shape: tuple[int, ...], captured: Callable[..., fx.GraphModule]
) -> None:
    quantizer = captured(model, f"{BEFORE['tensorrt']},insert-quantizers").get_submodule(path)
    assert isinstance(quantizer, QuantizeDequantize)
    assert quantizer.shape == shape


@pytest.mark.parametrize(
    ("path", "has_range"),
    [
        pytest.param("quantizers.sigmoid", True, id="fixed by the op"),
        pytest.param("quantizers.mul", False, id="to be measured"),
    ],
)
def test_only_a_fixed_range_is_set_before_calibration(
    path: str, has_range: bool, captured: Callable[..., fx.GraphModule]
) -> None:
    quantizer = captured(FixedAndMeasured(), f"{BEFORE['tensorrt']},insert-quantizers").get_submodule(path)
    assert isinstance(quantizer, QuantizeDequantize)
    assert quantizer.is_initialized() is has_range


@pytest.mark.parametrize("target", TARGETS)
def test_inserting_twice_changes_nothing(target: str, captured: Callable[..., fx.GraphModule]) -> None:
    gm = captured(SeveralReaders(), f"{BEFORE[target]},insert-quantizers")
    before = graph_text(gm)
    InsertQuantizers()(gm, Report())
    assert graph_text(gm) == before


def test_input_may_have_the_name_of_an_attribute_of_every_module(
    captured: Callable[..., fx.GraphModule],
) -> None:
    captured(InputNamed(), f"{BEFORE['tensorrt']},insert-quantizers")


def test_tensor_that_is_written_in_place_is_quantized_as_it_is_read(
    calibrated: Callable[..., fx.GraphModule],
) -> None:
    model, x = WritesInPlace().eval(), torch.randn(1, 4, 3, 3)
    exact = model(x)
    bound = 0.1 * exact.abs().max()  # far above the error of two layers of 8 bits
    assert (calibrated(model, "tensorrt", x)(x) - exact).abs().max() < bound


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        pytest.param(Masked(), (X, X > 0.0), id="flags"),
        pytest.param(Scaled(), (X,), id="number"),
        pytest.param(OffsetIndices(), (torch.tensor([1, 2]), torch.tensor([3, 4])), id="sum of indices"),
    ],
)
def test_operand_that_is_no_float_tensor_gets_no_quantizer(
    model: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    target: str,
    calibrated: Callable[..., fx.GraphModule],
) -> None:
    calibrated(model, target, *inputs)(*inputs)
