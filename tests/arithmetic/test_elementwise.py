"""Sums and products of codes against QLinearAdd and QLinearMul."""

import platform
from pathlib import Path

import pytest
import torch

from fxquant.arithmetic import Call
from fxquant.arithmetic.elementwise import add, multiply
from tests.arithmetic.kernel import (
    INT8,
    UINT8,
    differing,
    fused,
    leveled,
    numbers,
    pairs,
    random_codes,
    random_grid,
)

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="ONNX Runtime rounds otherwise on ARM"
)
FORMULAS = [pytest.param("Add", add, id="add"), pytest.param("Mul", multiply, id="mul")]
SHAPES = [
    ((2, 64, 16, 4), (2, 64, 1, 1)),
    ((2, 64, 1, 1), (2, 64, 16, 4)),
    ((1, 64, 1, 1), (2, 64, 16, 4)),
    ((2, 64, 16, 1), (2, 64, 16, 4)),
    ((2, 64, 16, 4), (2, 64, 16, 1)),
    ((1,), (2, 64, 16, 4)),
    ((2, 64, 16, 4), (1,)),
    ((2, 64, 16, 8), (8,)),
    ((8,), (2, 64, 16, 8)),
    ((256, 1), (1, 256)),
    ((1, 256), (256, 1)),
    ((2, 1, 1, 1), (2, 256, 1, 1)),
    ((1, 256, 1, 1), (2, 256, 1, 1)),
    ((3, 64, 1), (1,)),
]


@pytest.mark.parametrize("codes", [UINT8, INT8], ids=["uint8", "int8"])
@pytest.mark.parametrize(("op", "formula"), FORMULAS)
@pytest.mark.parametrize("seed", range(4))
def test_every_pair_of_codes_gives_the_code_of_the_kernel(op, formula, seed, codes, tmp_path: Path) -> None:
    random = numbers(seed)
    first, second, output = (random_grid(random, codes) for _ in range(3))
    x, y = (values + codes[0] for values in pairs())
    given = fused(tmp_path, op, [(x, first), (y, second)], output)
    levels = formula(Call(called=None), (leveled(x, first), leveled(y, second)), output)
    assert differing(levels, output, given) == 0


@pytest.mark.parametrize(("op", "formula"), FORMULAS)
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_operands_that_broadcast_give_the_codes_of_the_kernel(op, formula, shapes, tmp_path: Path) -> None:
    random = numbers(0)
    wrong = 0
    for _ in range(4):
        first, second, output = (random_grid(random) for _ in range(3))
        x, y = (random_codes(random, *shape) for shape in shapes)
        given = fused(tmp_path, op, [(x, first), (y, second)], output)
        levels = formula(Call(called=None), (leveled(x, first), leveled(y, second)), output)
        wrong += differing(levels, output, given)
    assert wrong == 0


def test_sum_in_float_differs_from_the_kernel(tmp_path: Path) -> None:
    random = numbers(0)
    first, second, output = (random_grid(random) for _ in range(3))
    x, y = pairs()
    given = fused(tmp_path, "Add", [(x, first), (y, second)], output)
    real = first.dequantize(x) + second.dequantize(y)
    assert torch.count_nonzero(output.quantize(real) != given) > 0
