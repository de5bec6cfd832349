"""The range without the outermost values."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxquant.errors import OptionError
from fxquant.quantization.encoding_analyzer import PercentileEncodingAnalyzer, cover
from tests.quantization.strategies import matrices


def _range(x: torch.Tensor, percentile: float, *, is_symmetric: bool = False, **options: int) -> list[float]:
    analyzer = PercentileEncodingAnalyzer((), percentile=percentile, **options)
    analyzer.update_stats(x)
    return [end.item() for end in analyzer.compute_encodings(254 if is_symmetric else 255, is_symmetric)]


@pytest.mark.parametrize(
    ("percentile", "is_symmetric", "expected"),
    [
        (99, False, [0.0, 990.0]),
        (99, True, [-990.0, 990.0]),
        (100, False, [0.0, 1000.0]),
        (50, False, [0.0, 500.0]),
    ],
)
def test_a_ramp_is_cut_where_it_should(percentile: float, is_symmetric: bool, expected: list[float]) -> None:
    assert _range(torch.arange(0, 1001.0), percentile, is_symmetric=is_symmetric, num_bins=500) == expected


@pytest.mark.parametrize("is_exact", [False, True], ids=["growing", "exact"])
def test_outliers_are_cut_off(is_exact: bool) -> None:
    x = torch.cat((torch.arange(99.0), torch.tensor([800.0, 1000.0])))
    analyzer = PercentileEncodingAnalyzer((1,), percentile=90.0, exact=is_exact)
    analyzer.update_stats(x)
    assert 89 < analyzer.compute_encodings(255, False)[1] < 91


@given(x=matrices(3), is_symmetric=st.booleans())
def test_a_hundred_percent_of_exact_bins_is_min_max(x: torch.Tensor, is_symmetric: bool) -> None:
    analyzer = PercentileEncodingAnalyzer((3, 1), percentile=100, exact=True)
    analyzer.update_stats(x)
    found = analyzer.compute_encodings(255, is_symmetric)
    expected = cover(x.amin(1, keepdim=True), x.amax(1, keepdim=True), 255, is_symmetric)
    assert torch.equal(torch.stack(found), torch.stack(expected))


def test_a_hundred_percent_are_the_ends_of_the_histogram() -> None:
    x = torch.randn(1000)
    analyzer = PercentileEncodingAnalyzer((), percentile=100)
    analyzer.update_stats(x)
    edges = analyzer.observer.stats.bin_edges[0]
    minimum, maximum = analyzer.compute_encodings(255, False)
    assert (minimum, maximum) == (edges[0], edges[-1])


@given(x=matrices(1), percentiles=st.tuples(st.floats(50, 100), st.floats(50, 100)), is_exact=st.booleans())
def test_a_higher_percentile_covers_no_less(
    x: torch.Tensor, percentiles: tuple[float, float], is_exact: bool
) -> None:
    lower, higher = (_range(x, p, num_bins=64, exact=is_exact) for p in sorted(percentiles))
    assert higher[0] <= lower[0]
    assert lower[1] <= higher[1]


def test_the_percentile_changes_after_observing() -> None:
    analyzer = PercentileEncodingAnalyzer((), percentile=100)
    analyzer.update_stats(torch.randn(1000))
    wide = analyzer.compute_encodings(255, False)
    analyzer.set_percentile(90)
    narrow = analyzer.compute_encodings(255, False)
    assert wide[0] < narrow[0] < 0 < narrow[1] < wide[1]


@pytest.mark.parametrize("percentile", [-1, 5, 49, 49.9, 100.1, 101, float("nan")])
def test_a_percentile_out_of_range_is_an_error(percentile: float) -> None:
    with pytest.raises(OptionError, match=r"\[50, 100\]"):
        PercentileEncodingAnalyzer((), percentile=percentile)


@pytest.mark.parametrize("num_bins", [0, -1])
def test_a_histogram_without_bins_is_an_error(num_bins: int) -> None:
    with pytest.raises(ValueError, match="too small"):
        PercentileEncodingAnalyzer((), num_bins)
