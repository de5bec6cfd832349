from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fxquant.graph import Example, Report, capture, coverage_of
from fxquant.graph.annotations import MACS
from fxquant.passes import DecomposeEinsum, parse

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 6}


class Einsum(nn.Module):
    def __init__(self, equation: str) -> None:
        super().__init__()
        self.equation = equation

    def forward(self, *operands: torch.Tensor) -> torch.Tensor:
        return torch.einsum(self.equation, *operands)


@st.composite
def equations(draw: Any) -> str:
    """Return any equation of two operands that sums over shared indices alone."""
    left, right = (draw(st.lists(st.sampled_from("abcde"), min_size=1, unique=True)) for _ in range(2))
    shared = set(left) & set(right)
    kept = draw(st.sets(st.sampled_from(sorted(shared)))) if shared else set()
    output = draw(st.permutations(sorted((set(left) ^ set(right)) | kept)))
    return f"{''.join(left)},{''.join(right)}->{''.join(output)}"


def inputs(equation: str) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = equation.partition("->")[0].split(",")
    shapes = [[SIZES[index] for index in text] for text in (first, second)]
    return torch.randn(shapes[0]).double(), torch.randn(shapes[1]).double()


@given(equations())
@settings(max_examples=60, deadline=None)
def test_any_einsum_of_two_tensors_becomes_a_product(equation: str) -> None:
    operands = inputs(equation)
    gm, report = capture(Einsum(equation), Example(args=operands)), Report()
    macs = sum(node.meta.get(MACS, 0) for node in gm.graph.nodes)
    DecomposeEinsum()(gm, report)
    assert [site.applied for site in report.sites] == [True]
    torch.testing.assert_close(gm(*operands), torch.einsum(equation, *operands))
    assert sum(node.meta.get(MACS, 0) for node in gm.graph.nodes) == macs == coverage_of(gm).macs


@pytest.mark.parametrize(
    ("name", "equation", "shapes"),
    [
        ("heads", "bhd,khd->bhk", ((2, 3, 4), (5, 3, 4))),
        ("ellipsis", "...d,dhk->...hk", ((2, 3, 4), (4, 2, 3))),
        ("implicit", "ji,jk", ((2, 3), (2, 4))),
        ("capitals", "...i,Zi->...", ((3, 4), (3, 4))),
    ],
)
def test_an_einsum_is_written_out(check_rewrite: Any, name: str, equation: str, shapes: Any) -> None:
    operands = tuple(torch.randn(shape) for shape in shapes)
    gm = capture(Einsum(equation), Example(args=operands))
    check_rewrite(gm, DecomposeEinsum(), name)
    torch.testing.assert_close(gm(*operands), torch.einsum(equation, *operands))


def test_an_einsum_with_a_weight_becomes_a_linear_layer() -> None:
    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.einsum("bnd,kd->bnk", x, self.weight)

    x, model = torch.randn(2, 3, 4), Projected()
    gm = capture(model, Example(args=(x,)))
    parse("decompose-einsum,swap-layers").run(gm, Report())
    assert [type(module) for module in gm.children()] == [nn.Linear]
    torch.testing.assert_close(gm(x), model(x))


@pytest.mark.parametrize(
    ("equation", "shapes", "reason"),
    [
        ("ii,ij->ij", ((2, 2), (2, 3)), "diagonal"),
        ("ij,k->k", ((2, 2), (3,)), "one operand alone"),
        ("ij,jk->ik", ((2, 1), (3, 4)), "broadcasts"),
        ("ij,jk->ik", ((2, 1), (1, 4)), "index of size 1"),
        ("ij->ji", ((2, 3),), "two operands"),
        ("i,i,i->i", ((2,), (2,), (2,)), "two operands"),
    ],
)
def test_another_stays(equation: str, shapes: Any, reason: str) -> None:
    operands = tuple(torch.randn(shape) for shape in shapes)
    gm, report = capture(Einsum(equation), Example(args=operands)), Report()
    DecomposeEinsum()(gm, report)
    assert reason in report.declined("decompose-einsum")[0].reason
