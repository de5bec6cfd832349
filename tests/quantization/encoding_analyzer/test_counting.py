"""Counting elements into bins."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxquant.quantization.encoding_analyzer import counting
from fxquant.quantization.encoding_analyzer.counting import count_between, finite_range
from tests.quantization.strategies import matrices


@pytest.mark.parametrize("num_bins", [1, 3, 10, 100, 256, 2048, 40000])
@pytest.mark.parametrize("chunk", [2**18, 64], ids=["whole", "chunked"])
@pytest.mark.parametrize("num_rows", [1, 5])
def test_counts_are_those_of_histc(
    num_bins: int, chunk: int, num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(counting._CHUNK, "cpu", chunk)
    rows = torch.randn(num_rows, 1000) * torch.linspace(0.1, 10, num_rows)[:, None]
    rows[:, ::7] = rows[:, ::7].round()  # values that fall on edges
    low, high = rows.amin(1), rows.amax(1)
    expected = [
        torch.histc(row, num_bins, a, b) for row, a, b in zip(rows, low.tolist(), high.tolist(), strict=True)
    ]
    assert torch.equal(count_between(rows, low, high, num_bins), torch.stack(expected))


@given(
    rows=matrices(2),
    num_bins=st.integers(1, 70),
    ends=st.tuples(st.floats(-50, 0, width=32), st.floats(0.5, 50, width=32)),
)
def test_every_element_counts_once(rows: torch.Tensor, num_bins: int, ends: tuple[float, float]) -> None:
    low, high = (torch.full((2,), end) for end in ends)
    counts = count_between(rows, low, high, num_bins)
    clipped = [torch.histc(row.clamp(*ends), num_bins, *ends) for row in rows]
    assert counts.sum() == rows.numel()
    assert torch.equal(counts, torch.stack(clipped))


def test_infinities_count_at_the_ends_and_nan_nowhere() -> None:
    inf, nan = float("inf"), float("nan")
    rows = torch.tensor([[0.0, inf, nan, -inf, -inf, 1.0]])
    assert count_between(rows, torch.zeros(1), torch.ones(1), 3).tolist() == [[3.0, 0.0, 2.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_any_type_counts_as_its_float32(dtype: torch.dtype) -> None:
    rows = torch.randn(3, 500).to(dtype)
    ends = rows.float().amin(1), rows.float().amax(1)
    assert torch.equal(count_between(rows, *ends, 77), count_between(rows.float(), *ends, 77))


def test_the_finite_range_leaves_out_the_rest() -> None:
    inf, nan = float("inf"), float("nan")
    rows = torch.tensor([[1.0, inf, 2.0], [nan, 3.0, -inf], [nan, inf, -inf]])
    minimum, maximum = finite_range(rows)
    assert (minimum.tolist(), maximum.tolist()) == ([1.0, 3.0, inf], [2.0, 3.0, -inf])
