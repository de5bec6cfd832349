"""Average pools against QLinearAveragePool and QLinearGlobalAveragePool."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fxquant.arithmetic import Call
from fxquant.arithmetic.pooling import adaptive_average_pool, average_pool
from tests.arithmetic.kernel import (
    INT8,
    UINT8,
    differing,
    fused,
    leveled,
    numbers,
    random_codes,
    random_grid,
)

POOLS = [(2, 2, 0, True), (3, 2, 1, True), (3, 1, 1, False), (4, 3, 2, False)]


@pytest.mark.parametrize("codes", [UINT8, INT8], ids=["uint8", "int8"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("sizes", [(1, 1), (3, 2), (7, 7), (13, 11)], ids=str)
def test_mean_of_an_image_gives_the_codes_of_the_kernel(sizes, seed, codes, tmp_path: Path) -> None:
    random = numbers(seed)
    x, output = random_grid(random, codes), random_grid(random, codes)
    values = random_codes(random, 4, 37, *sizes, codes=codes)
    given = fused(tmp_path, "GlobalAveragePool", [(values, x)], output)
    pool = Call(called=nn.AdaptiveAvgPool2d(1))
    assert differing(adaptive_average_pool(pool, (leveled(values, x),), output), output, given) == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("kernel", "stride", "padding", "counts"), POOLS)
def test_mean_of_windows_gives_the_codes_of_the_kernel(
    kernel, stride, padding, counts, seed, tmp_path: Path
) -> None:
    random = numbers(seed)
    x, output = random_grid(random), random_grid(random)
    values = random_codes(random, 2, 13, 15, 17)
    attributes = {
        "kernel_shape": [kernel] * 2,
        "strides": [stride] * 2,
        "pads": [padding] * 4,
        "count_include_pad": int(counts),
    }
    given = fused(tmp_path, "AveragePool", [(values, x)], output, attributes=attributes)
    pool = Call(called=nn.AvgPool2d(kernel, stride, padding, count_include_pad=counts))
    assert differing(average_pool(pool, (leveled(values, x),), output), output, given) == 0


def test_adaptive_pool_over_windows_is_an_average_pool(tmp_path: Path) -> None:
    random = numbers(0)
    x, output = random_grid(random), random_grid(random)
    values = random_codes(random, 2, 13, 12, 18)
    attributes = {"kernel_shape": [4, 3], "strides": [4, 3]}
    given = fused(tmp_path, "AveragePool", [(values, x)], output, attributes=attributes)
    pool = Call(called=nn.AdaptiveAvgPool2d((3, 6)))
    assert differing(adaptive_average_pool(pool, (leveled(values, x),), output), output, given) == 0


@pytest.mark.parametrize("shape", [(2, 3, 7, 5), (3, 6, 4)], ids=["windows of two sizes", "no batch"])
def test_other_adaptive_pools_are_means_in_float(shape: tuple[int, ...]) -> None:
    random = numbers(0)
    x, output = random_grid(random), random_grid(random)
    values = random_codes(random, *shape)
    pool = nn.AdaptiveAvgPool2d(2)
    levels = adaptive_average_pool(Call(called=pool), (leveled(values, x),), output)
    assert torch.equal(levels - output.offset, output.quantize(pool(x.dequantize(values))))
