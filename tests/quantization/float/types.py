"""Float types to test with, and their numbers counted out one by one."""

from functools import cache

import pytest
import torch
from hypothesis import strategies as st

from fxquant.quantization.float import FloatType
from fxquant.quantization.float.float_type import (
    BFLOAT16,
    FLOAT4_E2M1,
    FLOAT8_E4M3FN,
    FLOAT8_E4M3FNUZ,
    FLOAT8_E5M2,
    FLOAT8_E5M2FNUZ,
    FLOAT16,
)

TORCH_TYPES = [FLOAT16, BFLOAT16, FLOAT8_E4M3FN, FLOAT8_E4M3FNUZ, FLOAT8_E5M2, FLOAT8_E5M2FNUZ]
IEEE_TYPES = [
    FloatType(exponent_bits=exponent_bits, mantissa_bits=mantissa_bits)
    for exponent_bits, mantissa_bits in [(2, 3), (3, 1), (3, 4), (4, 3), (6, 5), (8, 10), (8, 23)]
]
ALL_TYPES = [*TORCH_TYPES, FLOAT4_E2M1, *IEEE_TYPES]
SMALL_TYPES = [float_type for float_type in ALL_TYPES if float_type.bitwidth <= 16]

ANY_TYPE = st.sampled_from(ALL_TYPES)
ANY_SMALL_TYPE = st.sampled_from(SMALL_TYPES)

EVERY_TYPE = pytest.mark.parametrize("float_type", ALL_TYPES, ids=str)
EVERY_SMALL_TYPE = pytest.mark.parametrize("float_type", SMALL_TYPES, ids=str)
EVERY_TORCH_TYPE = pytest.mark.parametrize("float_type", TORCH_TYPES, ids=str)


@cache
def magnitudes(float_type: FloatType) -> torch.Tensor:
    """Return zero and the positive numbers of a type in rising order, float64."""
    ratios = torch.arange(2**float_type.mantissa_bits, dtype=torch.float64) / 2**float_type.mantissa_bits
    exponents = torch.arange(2**float_type.exponent_bits, dtype=torch.float64).clamp_max(1020)
    found = torch.cat([ratios, torch.outer(2**exponents, 1 + ratios).flatten()]) * float_type.smallest_normal
    return found[found <= float_type.max]


def nearest(values: torch.Tensor, float_type: FloatType) -> torch.Tensor:
    """Return the number of the type nearest to each value, the even code at a tie, by search in float64."""
    grid = magnitudes(float_type)
    wanted = values.double().abs().clamp_max(float_type.max)
    above = torch.searchsorted(grid, wanted).clamp_max(len(grid) - 1)
    below = (above - 1).clamp_min(0)
    to_above, to_below = grid[above] - wanted, wanted - grid[below]
    takes_above = (to_above < to_below) | ((to_above == to_below) & (above % 2 == 0))
    return torch.where(takes_above, grid[above], grid[below]).copysign(values.double())


def unit_in_the_last_place(values: torch.Tensor, float_type: FloatType) -> torch.Tensor:
    """Return the distance of neighbours at each value in range, float64."""
    exponent = torch.frexp(values.double()).exponent.double() - 1
    return (2**exponent).clamp_min(float_type.smallest_normal) * 2.0**-float_type.mantissa_bits
