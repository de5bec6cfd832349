"""The histogram that follows the range of the data."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization.encoding_analyzer import HistogramObserver
from tests.quantization.strategies import matrices

EPS = torch.finfo(torch.float32).eps


def _observed(*tensors: torch.Tensor, shape: tuple[int, ...] = (), **options: float) -> HistogramObserver:
    observer = HistogramObserver(shape, **{"num_bins": 10, **options})
    for tensor in tensors:
        observer.update(tensor)
    return observer


def test_bins_run_from_the_minimum_to_the_maximum() -> None:
    one = _observed(torch.tensor([2.0, 3.5, 4.2, 5.0]), num_bins=3).stats[0]
    assert (one.min.item(), one.max.item()) == (2.0, 5.0)
    assert (one.histogram.tolist(), one.bin_edges.tolist()) == ([1, 1, 2], [2, 3, 4, 5])


@pytest.mark.parametrize(
    ("second", "counts", "ends"),
    [
        ([3.1, 3.3, 3.7, 3.9], [1, 5, 2], (2, 5)),  # inside: the bins stay
        ([5.3, 6.4, 7.0, 8.0], [2, 3, 3], (2, 8)),  # twice as wide: pairs of bins
        ([-1.0, 0.0, 1.0, 2.0], [2, 3, 3], (-1, 5)),
    ],
    ids=["inside", "above", "below"],
)
def test_counts_move_along_when_the_range_grows(
    second: list[float], counts: list[int], ends: tuple[float, float]
) -> None:
    one = _observed(torch.tensor([2.0, 3.5, 4.2, 5.0]), torch.tensor(second), num_bins=3).stats[0]
    assert one.histogram.tolist() == counts
    assert (one.bin_edges[0].item(), one.bin_edges[-1].item()) == ends


def test_the_count_of_a_bin_is_split_in_proportion() -> None:
    x = torch.arange(-50, 51.0)
    one = _observed(x, x * 1.5).stats[0]
    assert one.histogram.tolist() == [10, 15, 25, 25, 25, 25, 25, 26, 15, 11]
    assert one.bin_edges.tolist() == [-75, -60, -45, -30, -15, 0, 15, 30, 45, 60, 75]


@given(tensors=st.lists(matrices(2), min_size=1, max_size=4), num_bins=st.integers(1, 40))
def test_no_element_is_lost(tensors: list[torch.Tensor], num_bins: int) -> None:
    stats = _observed(*tensors, shape=(2, 1), num_bins=num_bins).stats
    assert stats.counts.sum(1).tolist() == [sum(t.shape[1] for t in tensors)] * 2
    assert (stats.counts >= 0).all()


def test_the_growth_limit_keeps_far_values_in_the_outer_bins() -> None:
    first, far = torch.linspace(-1, 1, 21), torch.tensor([100.0, -100.0, -100.0])
    one = _observed(first, far, growth_limit=3.0).stats[0]
    assert (one.min.item(), one.max.item()) == (-4.0, 4.0)  # half of 3 times 2 on either side
    assert (one.histogram[0].item(), one.histogram[-1].item()) == (2, 1)


@pytest.mark.parametrize("limit", [0.99, 0.0, -1.0])
def test_a_growth_limit_below_one_is_an_error(limit: float) -> None:
    with pytest.raises(QuantizerError, match="at least 1"):
        HistogramObserver((), num_bins=3, growth_limit=limit)


@pytest.mark.parametrize("num_bins", [0, -1])
def test_a_histogram_without_bins_is_an_error(num_bins: int) -> None:
    with pytest.raises(OptionError):
        HistogramObserver((), num_bins=num_bins)


def test_one_value_gets_bins_of_width_one_in_all() -> None:
    one = _observed(torch.full((4,), 3.0), num_bins=2).stats[0]
    assert (one.histogram.tolist(), one.bin_edges.tolist()) == ([0, 4], [2.5, 3.0, 3.5])


def test_before_anything_was_seen_all_is_none() -> None:
    stats = _observed(shape=(2, 1)).stats
    assert [(one.histogram, one.bin_edges, one.min, one.max) for one in stats] == [(None,) * 4] * 2
    with pytest.raises(IndexError):
        stats[2]


def test_a_range_that_had_nothing_finite_begins_later() -> None:
    nothing = torch.tensor([[1.0, 2.0], [float("nan")] * 2])
    late = _observed(nothing, torch.tensor([[1.0, 2.0], [5.0, 7.0]]), shape=(2, 1)).stats[1]
    assert (late.min.item(), late.max.item(), late.histogram.sum().item()) == (5.0, 7.0, 2)


def test_a_batch_is_counted_as_it_was() -> None:
    x = torch.randn(50)
    observer = _observed(x)
    stats = observer.update(x)
    x.relu_()
    with pytest.raises(QuantizerError, match="changed in place"):
        _ = stats.counts


def test_a_batch_is_counted_under_inference_mode() -> None:
    with torch.inference_mode():
        x = torch.randn(50)
        observer = _observed(x)
        assert observer.update(x).counts.sum() == 50


def test_merging_keeps_the_total_and_about_the_shape() -> None:
    x = torch.randn(20000, generator=torch.Generator().manual_seed(0))
    both, first, second = (_observed(t, num_bins=512) for t in (x, x[:10000], x[10000:]))
    first.merge(second)
    assert first.stats.counts.sum() == 20000
    running, expected = (s.stats.counts.cumsum(1) / 20000 for s in (first, both))
    # a bin's count may end up in its neighbour: at most the fullest bin's share, twice
    assert (running - expected).abs().max() < 2 * both.stats.counts.max() / 20000
    torch.testing.assert_close(first.stats.bin_edges, both.stats.bin_edges, rtol=0, atol=10 * EPS)


def test_histograms_of_other_bins_are_not_merged() -> None:
    with pytest.raises(QuantizerError, match="cannot be merged"):
        _observed(torch.ones(2)).merge(_observed(torch.ones(2), num_bins=3))
