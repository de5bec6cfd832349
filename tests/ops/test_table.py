"""The op table: each way to write an op leads to one row."""

import operator
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fxquant.errors import OptionError
from fxquant.nn import QuantizationMixin
from fxquant.ops import (
    TABLE,
    Op,
    Operand,
    OutputRange,
    Role,
    op_named,
    op_of_function,
    op_of_method,
    op_of_module,
)

ROWS = pytest.mark.parametrize("op", TABLE, ids=[op.name for op in TABLE])


class DoublesItsOutput(nn.Conv2d):
    """Computes something else than its base."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


class Named(nn.Conv2d):
    """Computes what its base computes."""


class DoublesItsWeight(nn.Conv2d):
    """Computes something else than its base, below forward."""

    def _conv_forward(
        self, input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        return super()._conv_forward(input, 2 * weight, bias)


@pytest.mark.parametrize("column", ["modules", "functions", "methods"])
def test_nothing_belongs_to_two_rows(column: str) -> None:
    entries = Counter(entry for op in TABLE for entry in getattr(op, column))
    assert [entry for entry, count in entries.items() if count > 1] == []


def test_names_are_unique() -> None:
    assert len({op.name for op in TABLE}) == len(TABLE)


@ROWS
def test_a_row_is_found_by_its_name_and_by_all_its_forms(op: Op) -> None:
    functions = [op_of_function(function) for function in op.functions if callable(function)]
    methods = [op_of_method(method) for method in op.methods]
    assert all(found is op for found in [op_named(op.name), *functions, *methods])


@ROWS
def test_the_methods_of_a_row_are_methods_or_attributes_of_tensors(op: Op) -> None:
    assert [method for method in op.methods if not hasattr(torch.Tensor, method)] == []


@ROWS
def test_operands_stand_in_order_of_position(op: Op) -> None:
    positions = [operand.index for operand in op.operands]
    assert positions == sorted(set(positions))


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (operator.add, "add"),
        (operator.iadd, "add"),
        (torch.add, "add"),
        (operator.mul, "mul"),
        (operator.imul, "mul"),
        (torch.mul, "mul"),
        (torch.multiply, "mul"),
        (operator.matmul, "matmul"),
        (torch.matmul, "matmul"),
        (torch.bmm, "matmul"),
        (F.relu, "relu"),
        (torch.relu, "relu"),
        (torch.relu_, "relu"),
        (F.relu_, "relu"),
        (F.conv2d, "conv2d"),
        (torch.conv2d, "conv2d"),
        (F.linear, "linear"),
        (torch.cat, "cat"),
        (torch.concat, "cat"),
        (F.adaptive_avg_pool2d, "adaptive_avg_pool"),
    ],
    ids=lambda value: getattr(value, "__qualname__", None),
)
def test_functions_and_operators_lead_to_their_row(form: Callable[..., Any], name: str) -> None:
    assert op_of_function(form) is op_named(name)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("add", "add"),
        ("add_", "add"),
        ("__add__", "add"),
        ("__radd__", "add"),
        ("mul", "mul"),
        ("mul_", "mul"),
        ("matmul", "matmul"),
        ("bmm", "matmul"),
        ("__matmul__", "matmul"),
        ("relu", "relu"),
        ("relu_", "relu"),
        ("view", "reshape"),
        ("permute", "transpose"),
    ],
)
def test_methods_and_their_in_place_forms_lead_to_their_row(method: str, name: str) -> None:
    assert op_of_method(method) is op_named(name)


@pytest.mark.parametrize("form", [torch.mm, operator.imatmul], ids=["mm", "imatmul"])
def test_every_matrix_product_is_a_matmul(form: Callable[..., Any]) -> None:
    assert op_of_function(form) is op_named("matmul")


@pytest.mark.parametrize(
    ("method", "name"),
    [("mm", "matmul"), ("__mul__", "mul"), ("__rmul__", "mul"), ("__iadd__", "add"), ("multiply_", "mul")],
)
def test_every_method_of_arithmetic_leads_to_its_row(method: str, name: str) -> None:
    assert op_of_method(method) is op_named(name)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda x, y: torch.add(input=x, other=y), "add"),
        (lambda x, y: torch.mul(input=x, other=y), "mul"),
        (lambda x, y: torch.matmul(input=x, other=y), "matmul"),
        (lambda x, y: F.linear(input=x, weight=y, bias=None), "linear"),
        (lambda x, y: F.conv1d(input=x, weight=y[:, :, None], bias=None), "conv1d"),
        (
            lambda x, y: F.scaled_dot_product_attention(query=x, key=y, value=y),
            "scaled_dot_product_attention",
        ),
    ],
    ids=["add", "mul", "matmul", "linear", "conv1d", "attention"],
)
def test_operands_are_named_as_torch_names_them(call: Callable[..., torch.Tensor], name: str) -> None:
    graph = torch.fx.symbolic_trace(lambda x, y: call(x, y)).graph
    node = next(node for node in graph.nodes if op_of_function(node.target) is op_named(name))
    assert set(node.kwargs) == {operand.name for operand in op_named(name).operands}


def test_the_functions_of_embedding_agree_on_the_order_of_operands() -> None:
    assert op_of_function(torch.embedding) is None or op_of_function(torch.embedding).weight.index == 0


def test_a_function_of_a_package_not_imported_is_found_by_its_qualified_name() -> None:
    elsewhere = type("stochastic_depth", (), {"__module__": "torchvision.ops.stochastic_depth"})
    assert op_of_function(elsewhere) is op_named("dropout")


@pytest.mark.parametrize(
    "module", [nn.Conv2d(1, 1, 1), Named(1, 1, 1), QuantizationMixin.from_module(nn.Conv2d(1, 1, 1))]
)
def test_a_module_leads_to_the_row_of_its_base(module: nn.Module) -> None:
    assert op_of_module(module) is op_named("conv2d")


def test_a_subclass_that_overrides_forward_has_no_row() -> None:
    assert op_of_module(DoublesItsOutput(1, 1, 1)) is None


def test_a_subclass_that_overrides_conv_forward_has_no_row() -> None:
    assert op_of_module(DoublesItsWeight(1, 1, 1)) is None


@pytest.mark.parametrize("found", [op_of_function(print), op_of_method("no_such_method")])
def test_what_the_table_does_not_know_has_no_row(found: Op | None) -> None:
    assert found is None
    assert op_of_module(nn.Sequential()) is None


def test_every_torch_class_with_a_quantized_class_has_a_row_or_several_outputs() -> None:
    originals = {c for c in QuantizationMixin.cls_to_qcls if c.__module__.startswith("torch.nn")}
    without = originals - {module for op in TABLE for module in op.modules}
    assert without == {nn.MultiheadAttention, nn.EmbeddingBag}


@pytest.mark.parametrize(
    ("name", "weight_axis"),
    [("conv2d", 0), ("conv_transpose2d", 1), ("linear", 0), ("embedding", None)],
)
def test_a_weight_knows_its_channel_axis(name: str, weight_axis: int | None) -> None:
    assert op_named(name).weight == Operand(
        name="weight", index=1, role=Role.WEIGHT, channel_axis=weight_axis
    )


def test_operands_are_told_apart_by_role() -> None:
    conv, add, embedding = op_named("conv2d"), op_named("add"), op_named("embedding")
    assert [operand.name for operand in conv.activations] == ["input"]
    assert conv.bias.name == "bias"
    assert [operand.name for operand in add.activations] == ["input", "other"]
    assert (add.weight, add.bias) == (None, None)
    assert embedding.activations == ()


@ROWS
def test_a_fixed_range_holds_zero(op: Op) -> None:
    low, high = op.fixed_range or (0.0, 1.0)
    assert low <= 0.0 < high


@pytest.mark.parametrize(
    "options", [{"output": OutputRange.FIXED}, {"fixed_range": (0.0, 1.0)}], ids=["no-range", "not-fixed"]
)
def test_a_fixed_range_comes_with_a_fixed_output(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="needs a fixed range exactly when its output is FIXED"):
        Op(name="op", **options)


def test_an_unknown_op_suggests_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"There is no op 'Conv2D'\. Did you mean 'conv2d'\?"):
        op_named("Conv2D")
