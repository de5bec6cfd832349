import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxquant.quantization.encoding_analyzer.exact_histogram import ExactHistograms, count_exactly
from fxquant.quantization.encoding_analyzer.running_histogram import RunningHistogram, placement

NUM_BINS = 32
LAW = settings(max_examples=60)
VALUES = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=8)


def _running(parts: list[torch.Tensor], num_bins: int = NUM_BINS) -> ExactHistograms:
    histogram = RunningHistogram(num_bins)
    for part in parts:
        low, high = torch.aminmax(part)
        histogram.add(histogram.count(part, low.item(), high.item()))
    found = histogram.histograms()
    assert found is not None
    return found


def _state(histograms: ExactHistograms) -> list[list[object]]:
    names = ("minimum", "maximum", "exponent", "first", "bins", "infinities")
    return [getattr(histograms, name).tolist() for name in names]


@LAW
@given(parts=st.lists(VALUES, min_size=1, max_size=4))
def test_counts_are_those_of_exact_histograms(parts: list[list[float]]) -> None:
    found = _running([torch.tensor(part) for part in parts])
    assert _state(found) == _state(
        count_exactly(torch.tensor([[x for part in parts for x in part]]), NUM_BINS)
    )


@LAW
@given(parts=st.lists(VALUES, min_size=2, max_size=4), data=st.data())
def test_order_does_not_matter(parts: list[list[float]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(parts))
    found, expected = (_running([torch.tensor(part) for part in order]) for order in (parts, shuffled))
    assert _state(found) == _state(expected)


@LAW
@given(first=VALUES, second=VALUES)
def test_merged_histograms_are_those_of_the_whole(first: list[float], second: list[float]) -> None:
    histogram = RunningHistogram(NUM_BINS)
    for part in (first, second):
        histogram.add_histograms(_running([torch.tensor(part)]))
    found = histogram.histograms()
    assert found is not None
    assert _state(found) == _state(_running([torch.tensor(first), torch.tensor(second)]))


@LAW
@given(low=st.floats(-(2.0**100), 2.0**100, width=32), high=st.floats(-(2.0**100), 2.0**100, width=32))
def test_placement_is_that_of_exact_histograms(low: float, high: float) -> None:
    low, high = min(low, high), max(low, high)
    expected = count_exactly(torch.tensor([[low, high]]), NUM_BINS)
    assert placement(low, high, NUM_BINS) == (expected.exponent.item(), expected.first.item())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_any_type_counts_as_its_float32(dtype: torch.dtype) -> None:
    values = torch.randn(500).to(dtype)
    assert _state(_running([values], 512)) == _state(_running([values.float()], 512))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(1, 3),
        lambda x: x[:, ::2, :, 1:],
        lambda x: x[:, :1].expand(-1, 3, -1, -1),
    ],
    ids=["channels_last", "transposed", "sliced", "expanded"],
)
def test_any_layout_counts_as_its_copy(view) -> None:
    values = view(torch.randn(2, 8, 6, 6))
    assert _state(_running([values])) == _state(
        _running([values.clone(memory_format=torch.contiguous_format)])
    )


def test_pieces_count_as_the_whole() -> None:
    values = torch.randn(2**18 + 3)
    assert _state(_running([values], 4096)) == _state(count_exactly(values[None], 4096))


def test_histograms_that_were_taken_do_not_change() -> None:
    histogram = RunningHistogram(NUM_BINS)
    histogram.add(histogram.count(torch.ones(3), 1.0, 1.0))
    taken = histogram.histograms()
    assert taken is not None
    for _ in range(2):
        histogram.add(histogram.count(torch.ones(5), 1.0, 1.0))
        histogram.add_histograms(taken)
    found = histogram.histograms()
    assert found is not None
    assert (int(taken.bins.sum()), int(found.bins.sum())) == (3, 3 + 2 * 5 + 2 * 3)
