"""Entropy: the clipping threshold that loses least information (Kullback-Leibler)."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.analyzer import EncodingAnalyzer
from fxquant.quantization.encoding_analyzer.cover import cover
from fxquant.quantization.encoding_analyzer.exact_histogram import power_of_two
from fxquant.quantization.encoding_analyzer.exact_observer import ExactHistogramObserver, require_exact
from fxquant.quantization.encoding_analyzer.histogram import Histograms

# Products of ranges, thresholds and levels worked on at a time: some fit the cache; elsewhere memory limits.
_CHUNK = {"cpu": 2**18}
_CHUNK_ELSEWHERE = 2**24
_ROUNDING = 1e-12  # some hundred times what a divergence is rounded by
_TINY = torch.finfo(torch.float64).tiny


class EntropyEncodingAnalyzer(EncodingAnalyzer[Histograms]):
    """Clips at the threshold T on |x| whose quantized distribution diverges least from the observed one.

    The method of TensorRT (Migacz 2017, "8-bit Inference with TensorRT", GTC), see ``divergences``, with one
    level for each step of half the grid: 128 levels for 8 bits, and 2048 bins. Two things differ: a bin is
    2^k wide, so that the histogram is exact whatever the order of the batches and 1025 to 2048 bins are in
    use; and values that are exactly zero are left out, as every grid holds zero. Of thresholds that are equal
    but for rounding, as with few distinct values, it is the largest.

    The range covers the observed one, clipped to [-T, T]. So an asymmetric range keeps a nearer end.

    Args:
        shape: Shape of the range: () for one range per tensor, otherwise broadcastable against the tensors.
        num_bins: Number of bins of the histogram of |x|, at least 16. With no more bins than levels nothing
            is clipped.
        block_size: Block sizes by axis; None without blocks.

    Raises:
        OptionError: If there are too few bins.
    """

    def __init__(
        self, shape: Sequence[int] | int, num_bins: int = 2048, *, block_size: BlockSize = None
    ) -> None:
        observer = ExactHistogramObserver(shape, block_size=block_size, num_bins=num_bins, is_magnitude=True)
        super().__init__(observer)

    def _find_range(
        self, stats: Histograms, num_steps: int, is_symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        exact = require_exact(stats)
        is_unseen = exact.minimum > exact.maximum
        minimum, maximum = (end.masked_fill(is_unseen, 0.0) for end in (exact.minimum, exact.maximum))
        num_levels = (int(num_steps) + 1) // 2
        if 1 < num_levels < exact.bins.shape[1]:
            found = divergences(exact.counts_without_zeros, num_levels)
            # Of equals the largest: with few distinct values, rounding alone would say which one it is.
            is_least = found <= found.amin(dim=1, keepdim=True) + _ROUNDING
            kept = (is_least * torch.arange(num_levels, exact.bins.shape[1] + 1, device=found.device)).amax(1)
            # Migacz: (m + 0.5) bin widths, m being the number of bins kept
            threshold = ((kept + 0.5) * power_of_two(exact.exponent)).float()
            threshold = threshold.masked_fill(~found.amin(dim=1).isfinite(), torch.inf)
            minimum, maximum = (end.clamp(-threshold, threshold) for end in (minimum, maximum))
        return cover(minimum, maximum, num_steps, is_symmetric)


def divergences(counts: torch.Tensor, num_levels: int) -> torch.Tensor:
    """Return KL(P || Q) for each number of kept bins from num_levels to all.

    With i bins kept, the others being outliers (Migacz 2017, slide "Entropy calibration - pseudocode")::

        P  = counts of the first i bins, the outliers added to the last, over their sum
        Q  = the first i bins without outliers, merged into num_levels levels as even as whole bins allow;
             the count of a level shared evenly among its bins that are not empty in P; over its sum

    Sums over bins become differences of running sums, so that a level costs one term, and is worked out once
    for all thresholds that have it. Thresholds
    beyond the last used bin are no candidates, unless all used bins are fewer than the levels.

    Args:
        counts: Float64 [n, bins].
        num_levels: Less than the number of bins.

    Returns:
        Divergences, float64 [n, bins - num_levels + 1]; infinite where i is no candidate.
    """
    num_bins = counts.shape[1]
    levels = _levels(num_bins, num_levels, counts.device)
    used = ((counts > 0) * torch.arange(1, num_bins + 1, device=counts.device)).amax(dim=1, keepdim=True)
    num_candidates = int(used.max()) + 1 - num_levels
    found = counts.new_full((len(counts), num_bins - num_levels + 1), torch.inf)
    if num_candidates <= 0:
        return found
    step = max(1, _CHUNK.get(counts.device.type, _CHUNK_ELSEWHERE) // (num_candidates * num_levels))
    for rows in (slice(i, i + step) for i in range(0, len(counts), step)):
        found[rows, :num_candidates] = _divergences(counts[rows], used[rows], levels, num_candidates)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class _Levels:
    """The levels of each number of kept bins. Most are levels of other numbers too: an eighth is distinct."""

    kept: torch.Tensor
    """Numbers of kept bins, int64 [m]."""
    start: torch.Tensor
    """First bin of each distinct level but for last ones, int64 [d]."""
    end: torch.Tensor
    """Bin after its last one, int64 [d]."""
    which: torch.Tensor
    """Of each number of kept bins all levels but the last, by their place in start; int64 [m, levels - 1]."""
    last_start: torch.Tensor
    """First bin of the last level, int64 [m]."""


@functools.lru_cache(maxsize=4)
def _levels(num_bins: int, num_levels: int, device: torch.device) -> _Levels:
    kept = torch.arange(num_levels, num_bins + 1, device=device)
    bounds = torch.arange(num_levels, device=device) * kept[:, None] // num_levels
    num_sizes = num_bins // num_levels + 2
    numbers = bounds[:, :-1] * num_sizes + bounds.diff(dim=1)
    is_there = torch.zeros(num_bins * num_sizes, dtype=torch.bool, device=device)
    is_there[numbers.flatten()] = True  # as torch.unique, in a tenth of the time
    distinct = is_there.nonzero()[:, 0]
    start = distinct // num_sizes
    return _Levels(
        kept=kept,
        start=start,
        end=start + distinct % num_sizes,
        which=(is_there.cumsum(0) - 1)[numbers],
        last_start=bounds[:, -1].contiguous(),
    )


def _divergences(counts: torch.Tensor, used: torch.Tensor, levels: _Levels, num: int) -> torch.Tensor:
    """Return the divergences [n, num] of the first candidates."""
    running, filled = _running(counts), _running((counts > 0).double())
    kept, last_start = levels.kept[:num], levels.last_start[:num]
    total, inside = running[:, -1:], running[:, kept]
    outliers = total - inside
    last = counts[:, kept - 1]
    own = _running(torch.xlogy(counts, counts))[:, kept] - torch.xlogy(last, last)
    own += torch.xlogy(last + outliers, last + outliers)

    sums = running[:, levels.end] - running[:, levels.start]
    sizes = filled[:, levels.end] - filled[:, levels.start]
    shared = _shared(sums, sizes)[:, levels.which[:num].flatten()].view(len(counts), num, -1).sum(dim=2)
    sums = inside - running[:, last_start]
    sizes = filled[:, kept] - filled[:, last_start] + ((last == 0) & (outliers > 0))
    shared += _shared(sums, sizes) + torch.xlogy(outliers, sums / sizes.clamp_min(1))

    found = (own - shared) / total - total.log() + inside.log()
    is_candidate = (kept <= used) & (inside > 0)
    return found.masked_fill(~is_candidate, torch.inf).nan_to_num_(nan=torch.inf, posinf=torch.inf)


def _shared(sums: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Return xlogy(sums, sums / sizes), several times as fast."""
    return (sums / sizes.clamp_min(1)).clamp_min_(_TINY).log_().mul_(sums)


def _running(values: torch.Tensor) -> torch.Tensor:
    """Return running sums that begin with zero, [n, bins + 1]."""
    return torch.nn.functional.pad(values.cumsum(dim=1), (1, 0))
