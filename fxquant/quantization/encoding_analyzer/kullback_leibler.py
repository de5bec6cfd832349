"""Kullback-Leibler divergence between a histogram and what few levels keep of its first bins."""

import functools
from dataclasses import dataclass

import torch

# Products of histograms, thresholds and levels worked on at a time: some fit the cache; elsewhere memory
# limits.
_CHUNK = {"cpu": 2**18}
_CHUNK_ELSEWHERE = 2**24
# Histograms whose sums over levels are worked out side by side: vectors, but not for fewer than some.
_FEW, _SIDE_BY_SIDE = 16, 64
_MOST_PLACES = 2**24  # beyond, with some 50,000 bins, it costs more to find levels that are the same
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True, kw_only=True, eq=False)
class Levels:
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
    """First bin of the level that holds the last kept bin, int64 [m]."""


@functools.lru_cache(maxsize=4)
def merged_levels(
    num_levels: int, start: int, stop: int, stride: int, *, rounds_up: bool, device: torch.device
) -> Levels:
    """Return the levels that start, start + stride, .. (below stop) bins are merged into.

    Args:
        num_levels: Level k of i bins begins at bin k * i / num_levels.
        start: Least number of bins, at least 1.
        stop: Above the largest one.
        stride: At least 1.
        rounds_up: How that is rounded to whole bins.
        device: Where the levels are used.
    """
    kept = torch.arange(start, stop, stride, device=device)
    bounds = torch.arange(num_levels, device=device) * kept[:, None]
    bounds = (bounds + (num_levels - 1) * int(rounds_up)) // num_levels
    # with fewer bins than levels each bin is one, and levels after that of the last bin are empty
    bounds = torch.minimum(bounds, kept[:, None] - 1)
    num_sizes = stop // num_levels + 2
    if stop * num_sizes > _MOST_PLACES:
        flat = torch.arange(bounds[:, 1:].numel(), device=device)
        return Levels(
            kept=kept,
            start=bounds[:, :-1].flatten(),
            end=bounds[:, 1:].flatten(),
            which=flat.view(bounds[:, 1:].shape),
            last_start=bounds[:, -1].contiguous(),
        )
    numbers = bounds[:, :-1] * num_sizes + bounds.diff(dim=1)
    is_there = torch.zeros(stop * num_sizes, dtype=torch.bool, device=device)
    is_there[numbers.flatten()] = True  # as torch.unique, in a tenth of the time
    distinct = is_there.nonzero()[:, 0]
    first = distinct // num_sizes
    return Levels(
        kept=kept,
        start=first,
        end=first + distinct % num_sizes,
        which=(is_there.cumsum(0) - 1)[numbers],
        last_start=bounds[:, -1].contiguous(),
    )


def kullback_leibler(counts: torch.Tensor, levels: Levels, num: int, *, keeps_outliers: bool) -> torch.Tensor:
    """Return KL(P || Q) for the first numbers of kept bins of the levels.

    With i bins kept, the others being outliers::

        P  = counts of the first i bins, the outliers added to the last, over their sum
        Q  = the first i bins without outliers, merged into levels; the count of a level shared evenly among
             its bins that are not empty; over its sum

    Sums over bins become differences of running sums, so that a level costs one term, and is worked out once
    for all thresholds that have it.

    Args:
        counts: Float64 [n, bins].
        levels: Of so many bins.
        num: How many numbers of kept bins.
        keeps_outliers: Whether outliers make an empty last bin one that is not empty. Otherwise Q has nothing
            there, and the divergence is infinite.

    Returns:
        Divergences, float64 [n, num]; NaN where the kept bins are empty, so that Q is 0 / 0.
    """
    found = counts.new_empty(len(counts), num)
    step = max(1, _CHUNK.get(counts.device.type, _CHUNK_ELSEWHERE) // max(1, num * levels.which.shape[1]))
    step = max(step, _SIDE_BY_SIDE) if len(counts) >= _FEW else step
    for rows in (slice(i, i + step) for i in range(0, len(counts), step)):
        found[rows] = _divergences(counts[rows], levels, num, keeps_outliers)
    return found


def _divergences(counts: torch.Tensor, levels: Levels, num: int, keeps_outliers: bool) -> torch.Tensor:
    running, filled = _running(counts), _running((counts > 0).double())
    kept, last_start = levels.kept[:num], levels.last_start[:num]
    total, inside = running[:, -1:], running[:, kept]
    outliers = total - inside
    last = counts[:, kept - 1]
    own = _running(torch.xlogy(counts, counts))[:, kept] - torch.xlogy(last, last)
    own += torch.xlogy(last + outliers, last + outliers)

    sums = running[:, levels.end] - running[:, levels.start]
    sizes = filled[:, levels.end] - filled[:, levels.start]
    shared = _sum_over(_shared(sums, sizes), levels.which[:num])
    is_lost = (last == 0) & (outliers > 0)
    sums = inside - running[:, last_start]
    sizes = filled[:, kept] - filled[:, last_start] + (is_lost if keeps_outliers else 0)
    shared += _shared(sums, sizes) + torch.xlogy(outliers, sums / sizes.clamp_min(1))

    found = (own - shared) / total - total.log() + inside.log()
    if not keeps_outliers:
        found.masked_fill_(is_lost, torch.inf)
    return found.masked_fill_(inside == 0, torch.nan)


def _sum_over(terms: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """Return the sums of terms [n, d] over which [m, k] of them, [n, m]."""
    if len(terms) < _FEW or which.shape[1] == 0:
        return terms[:, which.flatten()].view(len(terms), *which.shape).sum(dim=2)
    return torch.nn.functional.embedding_bag(which, terms.T.contiguous(), mode="sum").T


def _shared(sums: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Return xlogy(sums, sums / sizes), several times as fast."""
    return (sums / sizes.clamp_min(1)).clamp_min_(_TINY).log_().mul_(sums)


def _running(values: torch.Tensor) -> torch.Tensor:
    """Return running sums that begin with zero, [n, bins + 1]."""
    return torch.nn.functional.pad(values.cumsum(dim=1), (1, 0))
