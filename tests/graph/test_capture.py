import pickle
from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.errors import CaptureError, ModelTypeError
from fxquant.graph import Example, capture, graph_text
from fxquant.graph.annotations import layer_of
from fxquant.nn import QuantizedConv2d


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.shift = nn.Parameter(torch.zeros(2, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv(x) + self.shift)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Block(), nn.Dropout(0.5))
        self.fc = nn.Linear(2, 3)

    def forward(self, image: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        pooled = self.body(image).mean((2, 3))
        return self.fc(pooled) * scale


class OwnConv(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight * 2.0, self.bias)


class PlainConv(nn.Conv2d):
    pass


class BranchOnValue(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > 0:
            return x
        return -x


class CountsOnValue(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat(int(x.sum()))


class Outer(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


class OptionalInput(nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return x if mask is None else x * mask


class CallsTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.block(x))


def test_capture_keeps_layers_as_calls_and_traces_into_the_rest(golden: Callable[[str, str], None]) -> None:
    golden(graph_text(capture(Net())), "graph/capture/net")


def test_captured_graph_computes_what_the_model_computes() -> None:
    model, x = Net().eval(), torch.randn(3, 2, 4, 4)
    assert torch.equal(capture(model)(x), model(x))
    example = Example(args=(x,), kwargs={"scale": 2.0})
    assert torch.equal(capture(model, example)(x, scale=3.0), model(x, scale=3.0))


def test_captured_graph_is_in_evaluation_mode_and_the_model_stays_in_training_mode() -> None:
    model = Net().train()
    assert not capture(model).get_submodule("body.1").training
    assert model.body[1].training


def test_captured_graph_holds_parameters_of_its_own() -> None:
    model = Net()
    gm = capture(model)
    nn.init.zeros_(gm.fc.weight)
    assert model.fc.weight.any()


def test_every_node_knows_the_layer_of_the_user_it_comes_from() -> None:
    example = Example(args=(torch.randn(2, 2, 4, 4),), kwargs={"scale": 2.0})
    layers = {node.name: layer_of(node) for node in capture(Net(), example).graph.nodes}
    assert layers == {
        "image": "",
        "scale": "",
        "body_0_conv": "body.0.conv",
        "body_0_shift": "body.0",
        "add": "body.0",
        "relu": "body.0",
        "body_1": "body.1",
        "mean": "",
        "fc": "fc",
        "mul": "",
        "output": "",
    }


def test_a_layer_called_twice_has_one_name() -> None:
    gm = capture(CallsTwice())
    assert {layer_of(node) for node in gm.graph.find_nodes(op="call_function", target=F.relu)} == {"block"}


@pytest.mark.parametrize(
    "layer",
    [
        pytest.param(nn.Conv2d(2, 2, 1), id="torch layer"),
        pytest.param(PlainConv(2, 2, 1), id="subclass without a forward"),
        pytest.param(QuantizedConv2d(2, 2, 1), id="quantized layer"),
        pytest.param(nn.CrossMapLRN2d(2), id="torch layer without a row"),
    ],
)
def test_layer_stays_a_call(layer: nn.Module) -> None:
    gm = capture(Outer(layer))
    assert gm.graph.find_nodes(op="call_module", target="inner")


def test_subclass_with_its_own_forward_is_traced_into(golden: Callable[[str, str], None]) -> None:
    golden(graph_text(capture(Outer(OwnConv(2, 2, 1)))), "graph/capture/own_forward")


@pytest.mark.parametrize("model", [None, nn.Linear, {}], ids=["nothing", "a class", "a state dict"])
def test_what_is_not_a_module_is_refused(model: object) -> None:
    with pytest.raises(ModelTypeError, match=r"must be a torch\.nn\.Module"):
        capture(model)  # type: ignore[arg-type]  # the error under test


@pytest.mark.parametrize(
    ("inner", "line"),
    [
        pytest.param(BranchOnValue(), "if x.sum() > 0:", id="branch"),
        pytest.param(CountsOnValue(), "return x.repeat(int(x.sum()))", id="number"),
    ],
)
def test_forward_that_depends_on_values_is_refused_with_its_layer_and_line(
    inner: nn.Module, line: str
) -> None:
    with pytest.raises(CaptureError) as caught:
        capture(Outer(nn.Sequential(nn.ReLU(), inner)))
    assert caught.value.layer == "inner.1"
    assert f'test_capture.py:{_line_of(line)}: "{line}"' in caught.value.what


def test_optional_input_that_is_left_out_takes_the_branch_of_its_default() -> None:
    model, x = OptionalInput(), torch.randn(2, 3)
    assert torch.equal(capture(model)(x), model(x))


def test_root_forward_that_depends_on_values_is_refused_with_the_models_class() -> None:
    with pytest.raises(CaptureError) as caught:
        capture(BranchOnValue())
    assert caught.value.layer == "BranchOnValue"


def test_parametrizations_are_computed_on_the_copy_only() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))).eval()
    x = torch.rand(2, 3, 8, 8)
    wanted = model(x)
    gm = capture(model)
    assert nn.utils.parametrize.is_parametrized(model[0])
    assert torch.equal(model(x), wanted)
    assert torch.equal(gm(x), wanted)


def test_captured_graph_survives_pickling() -> None:
    gm, x = capture(Net()), torch.randn(1, 2, 4, 4)
    copied = pickle.loads(pickle.dumps(gm))
    assert isinstance(copied, fx.GraphModule)
    assert torch.equal(copied(x), gm(x))


def _line_of(code: str) -> int:
    with open(__file__, encoding="utf-8") as file:
        lines = [line.strip() for line in file]
    return lines.index(code) + 1
