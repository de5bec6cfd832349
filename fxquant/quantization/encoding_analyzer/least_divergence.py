"""How many bins of |x| to keep so that few levels lose least information: NVIDIA's entropy calibration."""

import math

import numpy as np
import torch

from fxquant.errors import OptionError
from fxquant.quantization.encoding_analyzer.kullback_leibler import kullback_leibler, merged_levels

# A divergence of counts below 2^53 sums terms of at most some 40 after running sums that are exact.
_ROUNDING = 1e-10
_TOGETHER = 2**21  # products of candidates and levels whose levels are held at a time
_logarithm = np.frompyfunc(math.log, 1, 1)
_logarithm_beside_one = np.frompyfunc(math.log1p, 1, 1)


def kept_with_least_divergence(
    counts: torch.Tensor, num_levels: int, *, start: int, stride: int = 1, num_bins: torch.Tensor
) -> torch.Tensor:
    """Return which of start, start + stride, .. kept bins has the least KL(P || Q), the largest if several.

    P and Q are those of ``kullback_leibler``, level k of i bins beginning at bin ceil(k * i / levels), and Q
    having nothing in an empty last bin. Where all kept bins are empty Q is 0 / 0, and NaN is less than any
    divergence, as it is for numpy's argmin.

    The result is that of scipy.stats.entropy in float64, its rounding included: running sums tell which
    candidates can be the least, and where these are several each is worked out anew as scipy does it.

    Args:
        counts: Whole numbers, float64 [n, bins]; zero beyond the bins of a histogram.
        num_levels: Of half the grid.
        start: At least 1.
        stride: At least 1.
        num_bins: How many bins each histogram has, int64 [n].

    Returns:
        Numbers of kept bins, int64 [n].

    Raises:
        OptionError: If start or stride is below 1, or a histogram has fewer bins than start.
    """
    if start < 1 or stride < 1 or int(num_bins.min()) < start:
        raise OptionError(
            f"No number of bins from {start} on in steps of {stride} can be kept of a histogram of "
            f"{int(num_bins.min())} bins.",
            remedy="Give a start_bin from 1 to the number of bins and a stride of at least 1.",
        )
    tried, found = _all_divergences(counts, num_levels, start, stride)
    found.masked_fill_(found.isnan(), -torch.inf)  # infinite would be 0 / 0 for a candidate without counts
    found.masked_fill_(tried > num_bins[:, None], torch.nan)
    least = found.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf).amin(dim=1, keepdim=True)
    is_near = found <= (least + _ROUNDING)
    last = (is_near * torch.arange(1, len(tried) + 1, device=counts.device)).amax(dim=1) - 1
    kept = tried[last]
    is_open = (is_near.sum(dim=1) > 1) & least[:, 0].isfinite()
    for row in is_open.nonzero()[:, 0].tolist():
        candidates = tried[is_near[row]].tolist()
        kept[row] = _least_as_rounded(counts[row].cpu().numpy(), candidates, num_levels)
    return kept


def _all_divergences(
    counts: torch.Tensor, num_levels: int, start: int, stride: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the candidates, int64 [m], and their divergences, [n, m]."""
    stop, block = counts.shape[1] + 1, stride * max(1, _TOGETHER // num_levels)
    kept, found = [], []
    for first in range(start, stop, block):
        levels = merged_levels(
            num_levels, first, min(first + block, stop), stride, rounds_up=True, device=counts.device
        )
        kept.append(levels.kept)
        found.append(kullback_leibler(counts, levels, len(levels.kept), keeps_outliers=False))
    return torch.cat(kept), torch.cat(found, dim=1)


def _least_as_rounded(counts: np.ndarray, candidates: list[int], num_levels: int) -> int:
    """Return the candidate of the least divergence as scipy rounds it, the last if several."""
    exact = [_divergence_as_rounded(counts, kept, num_levels) for kept in candidates]
    return max(zip([-value for value in exact], candidates, strict=True))[1]


def _divergence_as_rounded(counts: np.ndarray, kept: int, num_levels: int) -> float:
    """Return what scipy.stats.entropy(P, Q) does: its rel_entr per bin, and numpy's order of sums."""
    p = counts[:kept].copy()
    p[-1] += counts[kept:].sum()
    level = np.arange(kept) * num_levels // kept
    is_filled = counts[:kept] > 0
    sizes = np.bincount(level[is_filled], minlength=num_levels)
    means = np.bincount(level, weights=counts[:kept], minlength=num_levels) / np.maximum(sizes, 1)
    q = np.where(is_filled, means[level], 0.0)
    p /= p.sum()
    q /= q.sum()
    if np.any(p[q == 0] > 0):
        return math.inf
    a, b = p[is_filled], q[is_filled]
    ratio = a / b
    is_beside_one = (ratio > 0.5) & (ratio < 2)
    logarithms = np.zeros_like(ratio)
    # of the C library, as scipy's are: numpy's and torch's own differ in the last digit
    logarithms[~is_beside_one] = _logarithm(ratio[~is_beside_one])
    logarithms[is_beside_one] = _logarithm_beside_one((a - b)[is_beside_one] / b[is_beside_one])
    terms = np.zeros(kept)
    terms[is_filled] = a * logarithms
    return float(terms.sum())
