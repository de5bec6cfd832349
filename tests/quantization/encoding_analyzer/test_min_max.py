"""Min-max calibration: running minimum and maximum."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxquant.quantization import MinMaxEncodingAnalyzer
from tests.quantization.strategies import matrices

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.mark.parametrize("shape", [(), (1,), (3, 1)], ids=["per-tensor", "one-channel", "per-channel"])
@settings(max_examples=50)
@given(
    tensor=matrices(3),
    dtype=st.sampled_from(DTYPES),
    cuts=st.lists(st.integers(0, 8), max_size=3),
    is_symmetric=st.booleans(),
)
def test_chunked_calibration_equals_whole(
    shape: tuple[int, ...], tensor: torch.Tensor, dtype: torch.dtype, cuts: list[int], is_symmetric: bool
) -> None:
    whole = tensor.to(dtype)
    chunks = reversed(whole.tensor_split(sorted(cuts), dim=1))
    found = _observed(shape, *chunks).compute_encodings(255, is_symmetric)
    expected = _observed(shape, whole).compute_encodings(255, is_symmetric)
    assert torch.equal(torch.stack(found), torch.stack(expected))


def test_the_statistics_are_the_ends() -> None:
    stats = _observed([3, 1], torch.arange(6.0).reshape(3, 2)).observer.stats
    assert (stats.min.tolist(), stats.max.tolist()) == ([[0], [2], [4]], [[1], [3], [5]])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_in_the_observed_range(value: float) -> None:
    _, maximum = _observed((), torch.tensor([1.0, value]), torch.ones(3)).observed_range
    assert not maximum.isfinite()


def test_tensors_of_several_types_widen_the_range() -> None:
    analyzer = _observed((), torch.ones(2, dtype=torch.float16), torch.full((2,), 1e6))
    assert analyzer.observed_range[1].item() == 1e6


def _observed(shape: tuple[int, ...] | list[int], *tensors: torch.Tensor) -> MinMaxEncodingAnalyzer:
    analyzer = MinMaxEncodingAnalyzer(shape)
    for tensor in tensors:
        analyzer.update_stats(tensor)
    return analyzer
