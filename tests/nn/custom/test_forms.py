"""Functions as modules: they are their function, and prepare takes them for it."""

import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fxquant.graph import capture
from fxquant.graph.values import op_of
from fxquant.nn import custom
from fxquant.ops import TABLE, ModuleForm
from tests.nn import custom_cases
from tests.nn.cases import Case, normal, positive

FORMS = [(op, form) for op in TABLE for form in op.modules if issubclass(form, ModuleForm)]
COMPARISONS = {
    "Equal": operator.eq,
    "Greater": operator.gt,
    "GreaterEqual": operator.ge,
    "Less": operator.lt,
    "LessEqual": operator.le,
    "NotEqual": operator.ne,
}


class Calls(nn.Module):
    """Calls one module on its two inputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.module(x, y)


@pytest.mark.parametrize(
    ("case", "function"), custom_cases.FUNCTIONS.values(), ids=list(custom_cases.FUNCTIONS)
)
def test_a_form_is_its_function(case: Case, function: Callable[..., Any]) -> None:
    expected = function(*case.inputs, **case.kwargs)
    torch.testing.assert_close(case.expected(), expected, rtol=0, atol=0)


@pytest.mark.parametrize(("op", "form"), FORMS, ids=[form.__name__ for _, form in FORMS])
def test_a_form_is_found_under_its_name_and_can_be_pickled(op: object, form: type[ModuleForm]) -> None:
    assert getattr(custom, form.__name__) is form
    assert type(pickle.loads(pickle.dumps(form()))) is form
    assert form.__doc__


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (custom.Add(), "add"),
        (custom.MatMul(), "matmul"),
        (custom.Concat(1), "cat"),
        (custom.Maximum(), "maximum"),
    ],
    ids=["add", "matmul", "concat", "maximum"],
)
def test_a_captured_form_is_one_call_of_its_op(module: nn.Module, name: str) -> None:
    gm = capture(Calls(module))
    (call,) = (node for node in gm.graph.nodes if node.op == "call_module")
    assert op_of(gm, call).name == name


def test_what_is_more_than_one_function_is_captured_as_the_ops_inside() -> None:
    gm = capture(Calls(custom.DynamicLinear()))
    (call,) = (node for node in gm.graph.nodes if node.op == "call_function")
    assert op_of(gm, call).name == "linear"


@pytest.mark.parametrize("name", list(COMPARISONS))
def test_comparisons_compare(name: str) -> None:
    x = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(getattr(custom, name)()(x, x.flip(0)), COMPARISONS[name](x, x.flip(0)))


def test_other_forms_without_a_quantized_class_are_their_functions() -> None:
    x = normal(2, 3)
    assert custom.Shape()(x) == (2, 3)
    assert custom.Shape()(x, 1) == 3
    assert torch.equal(custom.Where()(x > 0, x, 0.0), x.relu())
    assert torch.equal(custom.TopK()(x, 2).values, x.topk(2).values)
    assert torch.equal(custom.NonZero()(x > 0), (x > 0).nonzero())
    assert torch.equal(custom.ElementwiseUnarySign()(x), x.sign())
    states = positive(1, 2, 3)
    expected = nn.functional.scaled_dot_product_attention(states, states, states)
    assert torch.equal(custom.ScaledDotProductAttention()(states, states, states), expected)


def test_concat_keeps_its_axis() -> None:
    x = normal(2, 3)
    assert custom.Concat(axis=-1)(x, x).shape == (2, 6)
    assert custom.QuantizedConcat(axis=-1)(x, x).shape == (2, 6)
