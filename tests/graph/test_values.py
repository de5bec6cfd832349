import operator
from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import capture
from fxquant.graph.values import (
    activations_of,
    attribute,
    is_call,
    is_constant,
    is_quantizer,
    op_of,
    operand_of,
    returns,
)
from fxquant.nn import custom
from fxquant.ops import Returns, op_named
from fxquant.quantization.affine import QuantizeDequantize

Forward = Callable[["Net", torch.Tensor, torch.Tensor], object]


class Net(nn.Module):
    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.add, self.concat = custom.Add(), custom.Concat()
        self.weight = nn.Parameter(torch.zeros(2, 2))
        self.compute = forward

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> object:
        return self.compute(self, x, y)


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net(lambda net, x, y: x @ net.weight)

    def forward(self, x: torch.Tensor) -> object:
        return self.net(x, x)


def graph_of(forward: Forward) -> fx.GraphModule:
    return capture(Net(forward))


def chain_of_additions(length: int) -> fx.GraphModule:
    graph = fx.Graph()
    node = graph.placeholder("x")
    for _ in range(length):
        node = graph.call_function(operator.add, (node, 1))
    graph.output(node)
    return fx.GraphModule(nn.Module(), graph)


def last(gm: fx.GraphModule) -> fx.Node:
    return gm.graph.output_node().all_input_nodes[-1]


def named(gm: fx.GraphModule, name: str) -> fx.Node:
    return {node.name: node for node in gm.graph.nodes}[name]


@pytest.mark.parametrize(
    ("forward", "op"),
    [
        pytest.param(lambda net, x, y: net.conv(x), "conv2d", id="module"),
        pytest.param(lambda net, x, y: torch.cat([x, y]), "cat", id="function"),
        pytest.param(lambda net, x, y: x + y, "add", id="operator"),
        pytest.param(lambda net, x, y: x.flatten(1), "flatten", id="method"),
    ],
)
def test_op_is_found_in_every_form(forward: Forward, op: str) -> None:
    gm = graph_of(forward)
    assert op_of(gm, last(gm)) is op_named(op)


@pytest.mark.parametrize(
    "forward",
    [
        pytest.param(lambda net, x, y: x, id="input"),
        pytest.param(lambda net, x, y: net.weight, id="constant"),
        pytest.param(lambda net, x, y: torch.erfinv(x), id="function without a row"),
        pytest.param(lambda net, x, y: x.cumprod(0), id="method without a row"),
    ],
)
def test_what_is_no_row_has_no_op(forward: Forward) -> None:
    gm = graph_of(forward)
    assert op_of(gm, last(gm)) is None


@pytest.mark.parametrize(
    ("forward", "kind"),
    [
        pytest.param(lambda net, x, y: x, Returns.TENSOR, id="input"),
        pytest.param(lambda net, x, y: net.weight, Returns.TENSOR, id="parameter"),
        pytest.param(lambda net, x, y: net.conv(x), Returns.TENSOR, id="module"),
        pytest.param(lambda net, x, y: torch.erfinv(x), Returns.TENSOR, id="unknown function"),
        pytest.param(lambda net, x, y: x.split(1), Returns.TUPLE, id="several tensors"),
        pytest.param(lambda net, x, y: x.split(1)[0], Returns.TENSOR, id="one of several tensors"),
        pytest.param(lambda net, x, y: x[0], Returns.TENSOR, id="slice"),
        pytest.param(lambda net, x, y: x.shape, Returns.VALUE, id="shape"),
        pytest.param(lambda net, x, y: x.shape[0], Returns.VALUE, id="entry of a shape"),
        pytest.param(lambda net, x, y: x.size(0), Returns.VALUE, id="size"),
        pytest.param(lambda net, x, y: x.size(0) * 2 + y.dim(), Returns.VALUE, id="arithmetic on sizes"),
        pytest.param(lambda net, x, y: x.size(0) ** -0.5, Returns.VALUE, id="power of a size"),
        pytest.param(lambda net, x, y: x.shape[-1] // 2, Returns.VALUE, id="half of a size"),
        pytest.param(lambda net, x, y: x * x.size(0), Returns.TENSOR, id="tensor times size"),
        pytest.param(lambda net, x, y: x.view(x.size(0), -1), Returns.TENSOR, id="view"),
    ],
)
def test_kind_of_value_is_told_by_the_graph(forward: Forward, kind: Returns) -> None:
    gm = graph_of(forward)
    assert returns(gm, last(gm)) is kind


def test_transpose_by_attribute_is_a_tensor() -> None:
    gm = graph_of(lambda net, x, y: x.mT)
    assert returns(gm, last(gm)) is Returns.TENSOR


def test_tensor_made_from_a_size_is_a_tensor() -> None:
    gm = graph_of(lambda net, x, y: torch.zeros((x.size(0), 2)))
    assert returns(gm, last(gm)) is Returns.TENSOR


def test_a_thousand_functional_ops_in_a_row_are_told_too() -> None:
    gm = chain_of_additions(1000)
    assert returns(gm, last(gm)) is Returns.TENSOR


@pytest.mark.parametrize(
    "forward",
    [
        pytest.param(lambda net, x, y: F.linear(x, net.weight), id="by position"),
        pytest.param(lambda net, x, y: F.linear(x, weight=net.weight), id="by keyword"),
        pytest.param(lambda net, x, y: torch.matmul(x, other=net.weight), id="by keyword of matmul"),
        pytest.param(lambda net, x, y: torch.mm(x, mat2=net.weight), id="by another keyword"),
    ],
)
def test_operand_is_found(forward: Forward) -> None:
    gm = graph_of(forward)
    op = op_of(gm, last(gm))
    assert op is not None
    assert operand_of(last(gm), op.operands[1]) is named(gm, "weight")


def test_operand_that_is_not_passed_is_none() -> None:
    gm = graph_of(lambda net, x, y: F.linear(x, net.weight))
    bias = op_named("linear").bias
    assert bias is not None
    assert operand_of(last(gm), bias) is None


def test_module_call_passes_no_weight() -> None:
    gm = graph_of(lambda net, x, y: net.conv(x, y))
    weight = op_named("conv2d").weight
    assert weight is not None
    assert operand_of(named(gm, "conv"), weight) is None


@pytest.mark.parametrize(
    ("forward", "names"),
    [
        pytest.param(lambda net, x, y: y + x, ["y", "x"], id="in order of position"),
        pytest.param(lambda net, x, y: x + x, ["x"], id="each once"),
        pytest.param(lambda net, x, y: x + 2.0, ["x"], id="without numbers"),
        pytest.param(lambda net, x, y: x * y.size(0), ["x"], id="without sizes"),
        pytest.param(lambda net, x, y: torch.cat([y, x, y], 1), ["y", "x"], id="from a list"),
        pytest.param(lambda net, x, y: torch.cat(tensors=(x, y)), ["x", "y"], id="from a keyword"),
        pytest.param(lambda net, x, y: F.linear(x, net.weight), ["x"], id="without weights"),
        pytest.param(lambda net, x, y: F.embedding(x, net.weight), [], id="without indices"),
        pytest.param(lambda net, x, y: x @ net.weight, ["x", "weight"], id="with constants"),
    ],
)
def test_activations_are_the_tensors_a_call_reads(forward: Forward, names: list[str]) -> None:
    gm = graph_of(forward)
    op = op_of(gm, last(gm))
    assert op is not None
    assert [node.name for node in activations_of(gm, last(gm), op)] == names


def test_a_module_of_a_joining_function_reads_each_tensor_it_is_called_with() -> None:
    gm = graph_of(lambda net, x, y: net.concat(x, y, x))
    assert [value.name for value in activations_of(gm, last(gm), op_named("cat"))] == ["x", "y"]


def test_a_module_of_a_function_gives_a_number_for_numbers() -> None:
    gm = graph_of(lambda net, x, y: net.add(x.size(0), 1))
    assert returns(gm, last(gm)) is Returns.VALUE


def test_attribute_of_a_constant_is_found_at_its_path() -> None:
    gm = capture(Outer())
    (node,) = gm.graph.find_nodes(op="get_attr")
    assert attribute(gm, node) is gm.get_parameter("net.weight")


def test_kinds_of_nodes_are_told_apart() -> None:
    gm = graph_of(lambda net, x, y: net.conv(x) @ net.weight)
    gm.add_submodule("quantizer", QuantizeDequantize((), bitwidth=8, symmetric=True))
    with gm.graph.inserting_before(gm.graph.output_node()):
        gm.graph.call_module("quantizer", (last(gm),))
    assert [node.name for node in gm.graph.nodes if is_call(node)] == ["conv", "matmul", "quantizer"]
    assert [node.name for node in gm.graph.nodes if is_constant(node)] == ["weight"]
    assert [node.name for node in gm.graph.nodes if is_quantizer(gm, node)] == ["quantizer"]
