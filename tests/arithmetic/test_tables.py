"""Sigmoid and softmax against QLinearSigmoid and QLinearSoftmax, and what needs no formula."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fxquant.arithmetic import Call
from fxquant.arithmetic.lookup import sigmoid
from fxquant.arithmetic.softmax import softmax
from tests.arithmetic.kernel import (
    INT8,
    UINT8,
    differing,
    fused,
    grid,
    leveled,
    numbers,
    random_codes,
    random_grid,
)

UNIT = grid(1 / 255, 0)


@pytest.mark.parametrize("codes", [UINT8, INT8], ids=["uint8", "int8"])
@pytest.mark.parametrize("seed", range(2))
def test_sigmoid_of_every_code_gives_the_code_of_the_kernel(seed, codes, tmp_path: Path) -> None:
    random = numbers(seed)
    x = random_grid(random, codes)
    output = grid(0.0007 + 0.0003 * seed, codes[0], codes)
    values = torch.arange(codes[0], codes[1] + 1)[None]
    given = fused(tmp_path, "Sigmoid", [(values, x)], output)
    levels = sigmoid(Call(called=torch.sigmoid), (leveled(values, x),), output)
    assert differing(levels, output, given) == 0


@pytest.mark.parametrize("dim", [-1, 1], ids=["last", "inner"])
@pytest.mark.parametrize("length", [2, 12, 197])
@pytest.mark.parametrize("seed", range(2))
def test_softmax_gives_the_codes_of_the_kernel(seed, length, dim, tmp_path: Path) -> None:
    random = numbers(seed)
    x = random_grid(random)
    shape = (3, 5, length) if dim == -1 else (3, length, 5)
    values = random_codes(random, *shape)
    given = fused(tmp_path, "Softmax", [(values, x)], UNIT, attributes={"axis": dim})
    levels = softmax(Call(called=F.softmax, kwargs={"dim": dim}), (leveled(values, x),), UNIT)
    assert differing(levels, UNIT, given) == 0


@pytest.mark.parametrize("seed", range(2))
def test_leaky_relu_in_float_gives_the_codes_of_the_kernel(seed, tmp_path: Path) -> None:
    random = numbers(seed)
    x, output = random_grid(random), random_grid(random)
    values = torch.arange(256)[None]
    given = fused(tmp_path, "LeakyRelu", [(values, x)], output, attributes={"alpha": 0.013})
    assert torch.equal(output.quantize(nn.LeakyReLU(0.013)(x.dequantize(values))), given)


@pytest.mark.parametrize("seed", range(2))
def test_concatenation_in_float_gives_the_codes_of_the_kernel(seed, tmp_path: Path) -> None:
    random = numbers(seed)
    first, second, output = (random_grid(random) for _ in range(3))
    values = torch.arange(256)[None]
    given = fused(tmp_path, "Concat", [(values, first), (values, second)], output, attributes={"axis": 1})
    joined = torch.cat([first.dequantize(values), second.dequantize(values)], 1)
    assert torch.equal(output.quantize(joined), given)
