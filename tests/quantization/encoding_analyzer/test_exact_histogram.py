"""The laws of the exact histogram."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization.encoding_analyzer import ExactHistogramObserver, ExactHistograms, HistogramObserver
from fxquant.quantization.encoding_analyzer.exact_histogram import count_exactly, power_of_two

NUM_BINS = 16
VALUES = st.one_of(
    st.floats(width=32),  # any: subnormal, huge, infinite, not a number
    st.floats(-4, 4, width=32),
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**-149, -(2.0**-149), 2.0**-126, 3.4028234663852886e38]),
)
LISTS = st.lists(VALUES, min_size=1, max_size=12)
LAW = settings(max_examples=60)
both_kinds = pytest.mark.parametrize("is_magnitude", [False, True], ids=["signed", "magnitude"])


def _count(values: list[float], is_magnitude: bool = False) -> ExactHistograms:
    return count_exactly(torch.tensor([values]), NUM_BINS, is_magnitude)


def _state(histograms: ExactHistograms) -> list[list[object]]:
    names = ("minimum", "maximum", "exponent", "first", "bins", "infinities")
    return [getattr(histograms, name).tolist() for name in names]


@both_kinds
@LAW
@given(first=LISTS, second=LISTS)
def test_merged_parts_equal_the_whole(is_magnitude: bool, first: list[float], second: list[float]) -> None:
    merged = _count(first, is_magnitude).merged(_count(second, is_magnitude))
    assert _state(merged) == _state(_count(first + second, is_magnitude))


@both_kinds
@LAW
@given(parts=st.lists(LISTS, min_size=2, max_size=4), data=st.data())
def test_neither_order_nor_grouping_matters(
    is_magnitude: bool, parts: list[list[float]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(parts))
    forward, backward = (_count(p[0], is_magnitude) for p in (parts, shuffled))
    for part in parts[1:]:
        forward = forward.merged(_count(part, is_magnitude))
    for part in shuffled[1:]:
        backward = _count(part, is_magnitude).merged(backward)
    assert _state(forward) == _state(backward)


@both_kinds
@LAW
@given(values=LISTS)
def test_every_value_lies_in_its_bin(is_magnitude: bool, values: list[float]) -> None:
    found = _count(values, is_magnitude)
    width = power_of_two(found.exponent)
    x = torch.tensor(values)
    finite = x[x.isfinite()].double()
    numbers = ((finite.abs() if is_magnitude else finite) / width).floor() - found.first
    expected = torch.zeros(1, NUM_BINS, dtype=torch.int64)
    expected[0].index_put_((numbers.long(),), torch.tensor(1), accumulate=True)
    assert torch.equal(found.bins, expected)
    infinite = (x.abs() if is_magnitude else x)[x.isinf()]
    assert found.infinities.tolist() == [[(infinite < 0).sum().item(), (infinite > 0).sum().item()]]


@given(
    values=st.lists(st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False), min_size=2, max_size=12)
)
def test_more_than_half_of_the_bins_are_in_use(values: list[float]) -> None:
    found = _count(values)
    used = (found.maximum.double() / power_of_two(found.exponent)).floor() - found.first + 1
    is_as_fine_as_float32 = found.exponent <= torch.frexp(torch.tensor(values).abs().max()).exponent - 24
    assert used > NUM_BINS / 2 or is_as_fine_as_float32


@pytest.mark.parametrize(
    ("values", "exponent", "first", "bins"),
    [
        ([0.0, 1.0, 15.0], 0, 0, {0: 1, 1: 1, 15: 1}),
        ([0.0, 1.0, 16.0], 1, 0, {0: 2, 8: 1}),
        ([-1.0, 14.5], 0, -1, {0: 1, 15: 1}),
        ([-1.0, 15.5], 1, -1, {0: 1, 8: 1}),
        ([-0.25, 0.25], -5, -8, {0: 1, 15: 0, 16: 0}),
    ],
    ids=str,
)
def test_the_bins_of_small_examples(
    values: list[float], exponent: int, first: int, bins: dict[int, int]
) -> None:
    found = _count(values)
    exponent = exponent + 1 if 16 in bins else exponent  # 0.25 needs a 17th bin of 2^-5
    first = first // 2 if 16 in bins else first
    assert (found.exponent.item(), found.first.item()) == (exponent, first)
    assert all(found.bins[0, i].item() == n for i, n in bins.items() if i < NUM_BINS)


def test_a_tiny_negative_value_stays_below_zero_in_wide_bins() -> None:
    found = _count([-(2.0**-149), 2.0**100])
    assert found.first.item() == -1
    assert found.bins[0, 0].item() == 1


@both_kinds
def test_chunks_do_not_matter(is_magnitude: bool) -> None:
    rows = torch.randn(3, 2**18)
    whole = count_exactly(rows, 2048, is_magnitude)
    parts = [count_exactly(part, 2048, is_magnitude) for part in rows.split(100000, dim=1)]
    assert _state(parts[0].merged(parts[2]).merged(parts[1])) == _state(whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@both_kinds
def test_any_type_counts_as_its_float32(dtype: torch.dtype, is_magnitude: bool) -> None:
    rows = torch.randn(2, 500).to(dtype)
    found, expected = (count_exactly(r, 64, is_magnitude) for r in (rows, rows.float()))
    assert _state(found) == _state(expected)


def test_infinities_count_in_the_outer_bins_in_use() -> None:
    inf = float("inf")
    counts = _count([0.0, 1.0, 5.0, inf, -inf, -inf, float("nan")]).counts
    # bins are a half wide: the last in use is [5, 5.5)
    assert {i: counts[0, i].item() for i in counts[0].nonzero().flatten().tolist()} == {0: 3, 2: 1, 10: 2}


def test_counts_without_zeros_leave_out_zeros_only() -> None:
    found = _count([0.0, -0.0, 0.5, 3.0])
    assert (found.counts - found.counts_without_zeros).sum().item() == 2
    assert found.counts_without_zeros.min().item() == 0


@pytest.mark.parametrize("shape", [torch.Tensor.neg, torch.abs], ids=lambda f: f.__name__)
def test_values_near_zero_are_no_zeros(shape: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = shape(torch.randn(1, 100_000, generator=torch.Generator().manual_seed(0)))
    with_zeros = count_exactly(torch.cat((x, torch.zeros(1, 100_000)), dim=1), 4096)
    lost = with_zeros.counts_without_zeros - count_exactly(x, 4096).counts
    assert lost.abs().sum().item() < 60  # by which two neighbours of some 100 values differ


@LAW
@given(values=LISTS)
def test_magnitudes_follow_from_twice_as_many_bins(values: list[float]) -> None:
    fine = count_exactly(torch.tensor([values]), 2 * NUM_BINS)
    derived, expected = fine.magnitudes(NUM_BINS), _count(values, is_magnitude=True)
    assert derived.exponent.tolist() == expected.exponent.tolist()
    assert derived.bins.sum().item() == expected.bins.sum().item()
    moved = (derived.bins - expected.bins).cumsum(dim=1)
    # a negative value at the edge of a bin counts in the bin before
    width = power_of_two(expected.exponent).item()
    edges = sum(value < 0 and math.isfinite(value) and (value / width).is_integer() for value in values)
    assert moved.min().item() >= 0
    assert moved.sum().item() == edges
    assert derived.infinities.tolist() == expected.infinities.tolist()


def test_too_few_bins_are_an_error() -> None:
    with pytest.raises(OptionError, match="at least 16"):
        ExactHistogramObserver((), num_bins=15)


def test_other_histograms_are_not_merged() -> None:
    exact, other = ExactHistogramObserver((), num_bins=16), HistogramObserver((), num_bins=16)
    for stats in (other.collect_stats(torch.ones(3)), _count([1.0], is_magnitude=True)):
        with pytest.raises(QuantizerError, match=r"not exact|other bins"):
            exact.merge_stats(stats)
