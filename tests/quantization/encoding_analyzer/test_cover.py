"""The range of a grid that covers given values."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxquant.quantization.encoding_analyzer import cover
from fxquant.quantization.functional import smallest_scale
from tests.quantization.strategies import ranges

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
EPS = torch.finfo(torch.float32).eps
LARGEST = torch.finfo(torch.float32).max
INF = float("inf")


@given(bounds=ranges(), num_steps=st.integers(4, 2**16 - 1), is_symmetric=st.booleans())
def test_the_covered_range_holds_what_was_seen(
    bounds: tuple[float, float], num_steps: int, is_symmetric: bool
) -> None:
    low, high = (torch.tensor(bound) for bound in bounds)
    minimum, maximum = cover(low, high, num_steps, is_symmetric)
    # A symmetric end is (bound / steps) * steps: two roundings of half an eps each.
    assert minimum <= low * (1 - EPS)
    assert maximum >= high * (1 - EPS)


@given(bounds=ranges(), num_steps=st.integers(2, 2**16 - 1))
def test_a_symmetric_range_has_the_proportions_of_its_grid(
    bounds: tuple[float, float], num_steps: int
) -> None:
    minimum, maximum = cover(*(torch.tensor(bound) for bound in bounds), num_steps, is_symmetric=True)
    # Each end is one product, rounded by half an eps.
    below, above = num_steps - num_steps // 2, num_steps // 2
    assert -minimum.item() / below == pytest.approx(maximum.item() / above, rel=EPS)


@pytest.mark.parametrize(
    ("is_symmetric", "num_steps", "low", "high", "expected"),
    [
        (True, 255, -1.0, 2.0, (-2.015748, 2.0)),
        (True, 255, -2.0, 1.0, (-2.0, 1.984375)),
        (True, 254, -1.0, 2.0, (-2.0, 2.0)),
        (True, 15, -1.0, 1.0, (-1.1428572, 1.0)),
        (True, 3, -1.0, 1.0, (-1.0, 0.5)),
        (True, 255, 0.0, 0.0, (-1.5258789e-05, 1.513958e-05)),
        (False, 255, 0.5, 1.0, (0.0, 1.0)),
        (False, 255, -1.0, -0.5, (-1.0, 0.0)),
        (False, 255, 0.0, 0.0, (0.0, 3.0398369e-05)),
        (False, 255, -1e-6, 1e-6, (-1e-6, 1e-6 + 3.0398369e-05)),
        (False, 255, 0.0, INF, (0.0, LARGEST / 4)),
        (False, 255, -INF, 0.0, (-LARGEST / 4, 0.0)),
    ],
)
def test_covered_ranges_match_the_golden_values(
    is_symmetric: bool, num_steps: int, low: float, high: float, expected: tuple[float, float]
) -> None:
    covered = cover(torch.tensor(low), torch.tensor(high), num_steps, is_symmetric)
    # 2 eps: the golden values are printed with 8 digits, which is half an eps, and computed with 3 roundings.
    assert [bound.item() for bound in covered] == pytest.approx(expected, rel=2 * EPS)


def test_two_bits_clip_only_where_they_may() -> None:
    bounds = torch.tensor(-1.0), torch.tensor(1.0)
    clipped, covered = (cover(*bounds, 3, True, may_clip_two_bits=may) for may in (True, False))
    assert [end.item() for end in (*clipped, *covered)] == [-1.0, 0.5, -2.0, 1.0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_infinite_ends_give_a_range_of_finite_width(is_symmetric: bool, dtype: torch.dtype) -> None:
    ends = torch.tensor([-INF, INF], dtype=dtype)
    minimum, maximum = cover(ends[0], ends[1], 255, is_symmetric)
    assert (maximum - minimum).float().isfinite()


@pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_not_a_number_stays_one(is_symmetric: bool) -> None:
    nan = torch.tensor(float("nan"))
    assert any(end.isnan() for end in cover(nan, nan, 255, is_symmetric))


@pytest.mark.parametrize("num_steps", [1, 3, 15, 255, 2**16 - 1], ids=str)
@pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("value", [0.0, 1e-42], ids=["zero", "subnormal"])
def test_a_channel_of_nothing_gets_the_smallest_scale(
    num_steps: int, is_symmetric: bool, value: float
) -> None:
    minimum, maximum = cover(torch.zeros(2), torch.tensor([value, 1.0]), num_steps, is_symmetric)
    width = (maximum - minimum)[0].item()
    # two ends, one rounding each
    assert width == pytest.approx(smallest_scale(num_steps) * num_steps, rel=2 * EPS)
    assert torch.stack((minimum, maximum)).isfinite().all()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
    ids=str,
)
def test_the_range_is_float32_or_wider(dtype: torch.dtype, expected: torch.dtype) -> None:
    ends = torch.tensor([-1.0, 1.0], dtype=dtype)
    assert [end.dtype for s in (True, False) for end in cover(ends[0], ends[1], 255, s)] == [expected] * 4
