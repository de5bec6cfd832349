"""Errors from running sums are those of the direct forms, and the searches that use them lose nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxquant.quantization.encoding_analyzer import (
    ExactHistograms,
    MseEncodingAnalyzer,
    SqnrEncodingAnalyzer,
    grid_search,
    mse,
)
from fxquant.quantization.encoding_analyzer.code_gains import CodeGains
from fxquant.quantization.encoding_analyzer.cover import cover
from fxquant.quantization.encoding_analyzer.exact_histogram import count_exactly, power_of_two
from fxquant.quantization.encoding_analyzer.grid_search import Grids
from fxquant.quantization.encoding_analyzer.least_noise import clipping_of, least_noise, noise_of
from fxquant.quantization.encoding_analyzer.squared_error import squared_error

NUM_BINS = 64
VALUES = st.one_of(
    st.floats(-4, 4, width=32),
    st.floats(-(2.0**100), 2.0**100, width=32),
    st.sampled_from([0.0, 1.0, -1.0, 1e-30, 100.0]),
)
LISTS = st.lists(VALUES, min_size=1, max_size=20)
LAW = settings(max_examples=50)
STEPS = st.sampled_from([1, 3, 15, 63])
symmetric_and_not = pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])
every_width = pytest.mark.parametrize("num_steps", [3, 15, 255])


@LAW
@given(values=LISTS, num_steps=STEPS, share=st.floats(0.01, 1.5))
def test_the_gains_of_codes_give_the_squared_error_of_spread_values(
    values: list[float], num_steps: int, share: float
) -> None:
    exact, counts = _counted(values)
    gains = CodeGains.of_spread_values(counts, exact.first)
    scale = torch.tensor([[share * _extent(exact) / num_steps]], dtype=torch.float64)
    lowest = torch.arange(-num_steps, 1.0, dtype=torch.float64)[None]
    found = Grids(gains, lowest[:, 0], num_steps, may_shift=True).squared_errors(scale)[0]
    edges = exact.first[:, None] + torch.arange(NUM_BINS + 1.0, dtype=torch.float64)
    expected = squared_error(edges, counts, lowest * scale, (lowest + num_steps) * scale, num_steps, False)
    # Both are differences of terms as large as the sum of squares, and of cubes of the edges in ``expected``.
    bound = 1e-12 * (1 + _extent(exact)) * gains.squares.item()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=bound)


@LAW
@given(values=LISTS, num_steps=STEPS, share=st.floats(0.01, 1.5), lowest=st.floats(-1, 0))
def test_a_grid_that_may_not_shift_errs_as_the_same_one_that_may(
    values: list[float], num_steps: int, share: float, lowest: float
) -> None:
    exact, counts = _counted(values)
    gains = CodeGains.of_spread_values(counts, exact.first)
    scale = torch.tensor([[share * _extent(exact) / num_steps]], dtype=torch.float64)
    code = torch.tensor([round(lowest * num_steps)], dtype=torch.float64)
    shifted, fixed = (
        Grids(gains, code, num_steps, may_shift=may).squared_errors(scale) for may in (True, False)
    )
    bound = 1e-13 * gains.squares.item()
    torch.testing.assert_close(shifted[0, 0, int(code) + num_steps], fixed[0, 0, 0], rtol=0, atol=bound)


@LAW
@given(values=LISTS, num_steps=STEPS, share=st.floats(0.01, 1.5), lowest=st.floats(-1, 0))
def test_the_gains_of_codes_give_the_noise_of_centered_values(
    values: list[float], num_steps: int, share: float, lowest: float
) -> None:
    exact, counts = _counted(values)
    gains = CodeGains.of_centered_values(counts, exact.first)
    scale = torch.tensor([[share * _extent(exact) / num_steps]], dtype=torch.float64)
    offset = torch.tensor([[float(round(lowest * num_steps))]], dtype=torch.float64)
    clipped = clipping_of(gains, scale, offset, num_steps)
    found = noise_of(gains, clipped, scale, offset, num_steps, 3.0)
    noise, loss, ties = _noise(exact, counts, scale.item(), offset.item(), num_steps)
    bound = 1e-13 * gains.squares.item()
    # A value half a step beyond the end, to the last bits, may count as clipped or as rounded.
    assert clipped.item() == pytest.approx(loss, rel=1e-9, abs=bound + ties)
    assert found.item() == pytest.approx(noise + 2 * loss, rel=1e-9, abs=bound + 2 * ties)


@symmetric_and_not
@every_width
@pytest.mark.parametrize("values", ["normal", "relu", "gelu", "softmax", "heavy", "outlier", "far"])
def test_the_search_errs_no_more_than_the_one_over_bins(
    values: str, num_steps: int, is_symmetric: bool
) -> None:
    exact = count_exactly(_data(values)[None], 1024)
    edges, density = exact.bin_edges, exact.counts_without_zeros / power_of_two(exact.exponent)[:, None]
    ends = cover(exact.minimum, exact.maximum, num_steps, is_symmetric, may_clip_two_bits=False)
    direct = mse._search(edges, density, *ends, num_steps, is_symmetric)
    found = MseEncodingAnalyzer((1,), 1024).compute_encodings_from_stats(exact, num_steps, is_symmetric)
    error, least = (
        squared_error(edges, density, low[:, None].double(), high[:, None].double(), num_steps, is_symmetric)
        for low, high in (found, direct)
    )
    # Both searches are local. At 8 bits the error has a minimum for each far value that is just not clipped.
    assert error <= least * (1 + 1e-4)


@symmetric_and_not
@every_width
@pytest.mark.parametrize("values", ["normal", "relu", "gelu", "softmax", "heavy", "outlier", "far"])
def test_sqnr_finds_the_candidate_with_the_least_noise(
    values: str, num_steps: int, is_symmetric: bool
) -> None:
    exact = count_exactly(_data(values)[None], 1024)
    analyzer = SqnrEncodingAnalyzer((1,), 1024, exact=True)
    deltas, offsets = analyzer._pick_test_candidates(exact, num_steps, is_symmetric)
    delta, offset = analyzer._select_best_candidates(deltas, offsets, exact, num_steps)
    noise = analyzer._estimate_clip_and_quant_noise(exact, deltas, offsets, num_steps, analyzer.gamma)
    found = analyzer._estimate_clip_and_quant_noise(exact, delta, offset, num_steps, analyzer.gamma)
    # sums of 1024 float32
    assert found.item() <= noise.min().item() * (1 + 1e-6)


@symmetric_and_not
@pytest.mark.parametrize("chunk", [1, 2**13])
def test_how_rows_are_cut_does_not_matter(
    is_symmetric: bool, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(5, 300, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1], [9], [0], [1e-9], [1]]
    )
    x[4] = x[4].abs() + 3
    exact = count_exactly(x, NUM_BINS)
    analyzers = MseEncodingAnalyzer((5, 1), NUM_BINS), SqnrEncodingAnalyzer((5, 1), NUM_BINS, exact=True)

    def ranges() -> list[torch.Tensor]:
        return [torch.stack(a.compute_encodings_from_stats(exact, 15, is_symmetric)) for a in analyzers]

    whole = ranges()
    monkeypatch.setitem(grid_search._CHUNK, "cpu", chunk)
    monkeypatch.setitem(least_noise.__globals__["_CHUNK"], "cpu", chunk)
    torch.testing.assert_close(ranges(), whole, rtol=0, atol=0)


@symmetric_and_not
@LAW
@given(values=LISTS, num_steps=STEPS)
def test_a_range_is_finite_and_holds_zero(is_symmetric: bool, values: list[float], num_steps: int) -> None:
    exact = count_exactly(torch.tensor([values]), NUM_BINS)
    for analyzer in (MseEncodingAnalyzer((1,), NUM_BINS), SqnrEncodingAnalyzer((1,), NUM_BINS, exact=True)):
        minimum, maximum = analyzer.compute_encodings_from_stats(exact, num_steps, is_symmetric)
        assert minimum <= 0 <= maximum
        assert 0 < maximum - minimum < float("inf")


def _counted(values: list[float]) -> tuple[ExactHistograms, torch.Tensor]:
    exact = count_exactly(torch.tensor([values]), NUM_BINS)
    return exact, exact.counts


def _extent(exact: ExactHistograms) -> float:
    """Return the width of the observed range with zero, in bins; at least 1."""
    width = power_of_two(exact.exponent)
    low, high = exact.minimum.double().clamp_max(0), exact.maximum.double().clamp_min(0)
    return max(1.0, ((high - low) / width).item())


def _noise(
    exact: ExactHistograms, counts: torch.Tensor, scale: float, offset: float, num_steps: int
) -> tuple[float, float, float]:
    """Return the squared error, that of clipping alone, and that of values half a step beyond the end."""
    x = exact.first.item() + torch.arange(NUM_BINS, dtype=torch.float64) + 0.5
    steps = x / scale - offset
    errors = (scale * (steps.round().clamp(0, num_steps) + offset) - x).square() * counts[0]
    beyond = (steps - steps.clamp(0, num_steps)).abs()
    is_tie = (beyond - 0.5).abs() < 1e-9 * (1 + steps.abs() + abs(offset))
    return errors.sum().item(), errors[beyond > 0.5].sum().item(), errors[is_tie].sum().item()


def _data(name: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5_000, generator=generator)
    return {
        "normal": x,
        "relu": x.relu(),
        "gelu": torch.nn.functional.gelu(2 * x),
        "softmax": (2 * x).view(-1, 100).softmax(dim=1).flatten(),
        "heavy": x / (torch.randn(5_000, generator=generator).abs() + 0.05),
        "outlier": torch.cat((x, torch.tensor([50.0, -200.0]))),
        "far": 0.001 * x + 1.0,
    }[name]
