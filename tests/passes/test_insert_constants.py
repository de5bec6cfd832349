"""InsertConstants: numbers that integer ops combine tensors with."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fxquant.graph import Example, Report, capture, graph_text
from fxquant.passes import Canonicalize, InsertConstants, Pipeline

X = torch.tensor([[1.0, 2.0], [0.5, 4.0]])


class Calls(nn.Module):
    def __init__(self, call: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor) -> Any:
        return self.call(x)


def with_canonical_calls(call: Callable[[torch.Tensor], Any], x: torch.Tensor) -> Any:
    gm = capture(Calls(call), Example(args=(x,)))
    Pipeline((Canonicalize(),)).run(gm, Report())
    return gm


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("second", lambda x: x * 0.125),
        ("first", lambda x: 2 - x),
        ("reversed", lambda x: torch.rsub(x, 1)),
        ("quotient", lambda x: 1 / x),
        ("by_keyword", lambda x: torch.mul(x, other=3)),
        ("factor", lambda x: x.add(1, alpha=1)),
        ("factor_of_the_number", lambda x: torch.sub(x, 0.5, alpha=2)),
        ("exponent_by_keyword", lambda x: torch.pow(x, exponent=2)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_number_is_a_constant(
    check_rewrite: Any, name: str, call: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    gm = with_canonical_calls(call, X)
    check_rewrite(gm, InsertConstants(target="qualcomm"), name)
    torch.testing.assert_close(gm(X), call(X))
    once = graph_text(gm)
    InsertConstants(target="qualcomm")(gm, Report())
    assert graph_text(gm) == once


@pytest.mark.parametrize(
    ("name", "call", "x"),
    [
        ("integers", lambda x: x + 1, torch.arange(4)),
        ("options", lambda x: torch.softmax(x, 1), X),
        ("size", lambda x: x * x.shape[0], X),
        ("float_op", lambda x: torch.fmod(x, 2), X),
    ],
    ids=["integers", "options", "size", "float op"],
)
def test_other_numbers_stay(
    check_rewrite: Any, name: str, call: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor
) -> None:
    gm = with_canonical_calls(call, x)
    check_rewrite(gm, InsertConstants(target="qualcomm"), name)
    torch.testing.assert_close(gm(x), call(x))


def test_a_target_that_runs_the_op_in_float_keeps_the_number() -> None:
    gm = with_canonical_calls(lambda x: 1 / x, X)
    before = graph_text(gm)
    InsertConstants(target="onnxruntime")(gm, Report())
    assert graph_text(gm) == before
