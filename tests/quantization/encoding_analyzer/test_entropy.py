"""The clipping threshold that loses least information."""

import numpy as np
import pytest
import torch

from fxquant.quantization.encoding_analyzer import EntropyEncodingAnalyzer
from fxquant.quantization.encoding_analyzer.entropy import divergences

symmetric_and_not = pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])


def _divergence(counts: np.ndarray, kept: int, levels: int) -> float:
    """Return KL(P || Q) as the pseudocode of Migacz 2017 has it, bin by bin."""
    p = counts[:kept].copy()
    p[-1] += counts[kept:].sum()
    q = np.zeros(kept)
    for level in range(levels):
        which = np.arange(level * kept // levels, (level + 1) * kept // levels)
        filled = which[p[which] > 0]
        if len(filled):
            q[filled] = counts[which].sum() / len(filled)
    if q.sum() == 0 or np.any((p > 0) & (q == 0)):
        return float("inf")
    p, q = p / p.sum(), q / q.sum()
    return float(sum(a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0))


@pytest.mark.parametrize("levels", [2, 5, 16, 33])
@pytest.mark.parametrize("sparsity", [0.0, 0.7])
def test_divergences_are_those_of_the_pseudocode(levels: int, sparsity: float) -> None:
    generator = np.random.default_rng(0)
    counts = generator.integers(0, 50, (3, 40)) * (generator.random((3, 40)) >= sparsity).astype(float)
    counts[:, -1] = 7.0  # all bins are in use
    found = divergences(torch.from_numpy(counts), levels)
    expected = [[_divergence(row, kept, levels) for kept in range(levels, 41)] for row in counts]
    # sums of some 40 terms of size 1 in float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-12)


def test_thresholds_beyond_the_last_used_bin_are_no_candidates() -> None:
    counts = torch.zeros(3, 40, dtype=torch.float64)
    counts[0, :25] = counts[1, :10] = 1.0
    counts[0, 3] = 9.0
    found = divergences(counts, 16)  # of 16 to 40 bins
    assert found.isfinite().sum(dim=1).tolist() == [10, 0, 0]
    expected = [_divergence(counts[0].numpy(), kept, 16) for kept in range(16, 26)]
    np.testing.assert_allclose(found[0, :10].numpy(), expected, rtol=0, atol=1e-12)


@symmetric_and_not
def test_a_few_distinct_values_are_covered_whole(is_symmetric: bool) -> None:
    # Where every level holds one value, any threshold loses nothing by this measure.
    analyzer = EntropyEncodingAnalyzer(())
    analyzer.update_stats(torch.arange(-5.0, 9.0))
    assert analyzer.compute_encodings(255, is_symmetric)[1].item() == 8.0


@symmetric_and_not
def test_even_data_is_covered_whole(is_symmetric: bool) -> None:
    analyzer = EntropyEncodingAnalyzer(())
    analyzer.update_stats(torch.arange(-2047.5, 2048.0))
    minimum, maximum = analyzer.compute_encodings(254 if is_symmetric else 255, is_symmetric)
    assert (minimum.item(), maximum.item()) == (pytest.approx(-2047.5), pytest.approx(2047.5))


@symmetric_and_not
def test_a_long_tail_is_clipped(is_symmetric: bool) -> None:
    analyzer = EntropyEncodingAnalyzer(())
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    analyzer.update_stats(torch.cat((x, torch.tensor([40.0, -60.0]))))
    minimum, maximum = analyzer.compute_encodings(255, is_symmetric)
    assert -20 < minimum < -2
    assert 2 < maximum < 20


def test_an_asymmetric_range_keeps_the_nearer_end() -> None:
    analyzer = EntropyEncodingAnalyzer(())
    analyzer.update_stats(torch.randn(10_000, generator=torch.Generator().manual_seed(0)).clamp_min(-0.125))
    assert analyzer.compute_encodings(255, False)[0].item() == -0.125


def test_zeros_do_not_matter() -> None:
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    found = []
    for tensor in (x, torch.cat((x, torch.zeros(50_000)))):
        analyzer = EntropyEncodingAnalyzer(())
        analyzer.update_stats(tensor)
        found.append(torch.stack(analyzer.compute_encodings(255, True)))
    assert torch.equal(*found)


@pytest.mark.parametrize("num_steps", [1, 2, 65535])
def test_a_grid_finer_than_the_bins_or_of_one_level_clips_nothing(num_steps: int) -> None:
    analyzer = EntropyEncodingAnalyzer(())
    analyzer.update_stats(torch.tensor([-3.0, 0.5, 1.0]))
    assert analyzer.compute_encodings(num_steps, False)[0].item() == -3.0
