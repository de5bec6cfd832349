"""The histogram that follows the range of the data: AIMET's rules, for many ranges at once.

Bins are equal and run from the minimum to the maximum seen. When that range grows, each old bin moves its
count to the new bins that it overlaps, split in proportion and rounded. So the total count is exact, but
where the counts lie depends on the order of batches; ``exact_histogram`` has one that does not.
"""

import torch

from fxquant.quantization.encoding_analyzer.histogram import Histograms


def edges_between(minimum: torch.Tensor, maximum: torch.Tensor, num_bins: int) -> torch.Tensor:
    """Return the ends of equal bins, float32 [n, num_bins + 1].

    Where minimum and maximum are the same value v the bins run from v - 0.5 to v + 0.5, as ``torch.histc``
    does; where nothing finite was seen (minimum above maximum) all ends are zero.
    """
    is_point = minimum == maximum
    low = torch.where(is_point, minimum - 0.5, minimum).float()
    high = torch.where(is_point, maximum + 0.5, maximum).float()
    is_unseen = low > high
    low, high = low.masked_fill(is_unseen, 0.0), high.masked_fill(is_unseen, 0.0)
    step = (high - low) / num_bins
    return torch.arange(0, num_bins + 1, device=low.device) * step[:, None] + low[:, None]


def growth_limits(bin_edges: torch.Tensor, growth_limit: float) -> torch.Tensor:
    """Return the ends beyond which the range does not grow, [n, 2].

    Args:
        bin_edges: Of the first batch, [n, num_bins + 1].
        growth_limit: Half of it, times the width of the first batch's range, is allowed on either side.
    """
    low, high = bin_edges[:, 0], bin_edges[:, -1]
    room = ((high - low) * growth_limit / 2).nan_to_num_(nan=torch.inf, posinf=torch.inf)
    return torch.stack((low - room, high + room), dim=1)


def grown_range(
    old: Histograms, minimum: torch.Tensor, maximum: torch.Tensor, limits: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the range of the old bins and, as far as the limits allow, [minimum, maximum]; each [n]."""
    edges = old.bin_edges
    minimum, maximum = (end.to(torch.promote_types(end.dtype, edges.dtype)) for end in (minimum, maximum))
    return (
        torch.clamp(minimum, limits[:, 0], edges[:, 0]),
        torch.clamp(maximum, edges[:, -1], limits[:, 1]),
    )


def moved_counts(old: Histograms, minimum: torch.Tensor, maximum: torch.Tensor) -> torch.Tensor:
    """Return the counts of old histograms in as many equal bins from minimum to maximum, [n, num_bins].

    A count that two new bins share goes to the first in proportion to the overlap, rounded half to even, and
    the rest to the second. A range that is unchanged keeps its counts.
    """
    is_grown = (minimum != old.minimum) | (maximum != old.maximum)
    which = is_grown.nonzero().flatten()
    if len(which) == 0:
        return old.counts
    counts, edges = old.counts[which], old.bin_edges[which]
    low, high = minimum[which, None].float(), maximum[which, None].float()
    num_bins = counts.shape[1]
    new_width, old_width = (high - low) / num_bins, edges[:, 1:2] - edges[:, :1]
    start = edges[:, :-1]
    first = _bin_numbers(start, low, new_width, num_bins)
    overlap = (low + new_width * (first + 1) - start) / old_width
    kept = torch.minimum(torch.round(overlap * counts), counts)
    kept = torch.where(old_width > 0, kept, counts)
    second = _bin_numbers(start + new_width, low, new_width, num_bins)
    moved = torch.zeros_like(counts)
    moved.scatter_add_(1, first, kept).scatter_add_(1, second, counts - kept)
    return old.counts.index_copy(0, which, moved)


def _bin_numbers(values: torch.Tensor, low: torch.Tensor, width: torch.Tensor, num_bins: int) -> torch.Tensor:
    return ((values - low) / width).nan_to_num_(nan=0.0).clamp_(0, num_bins - 1).to(torch.int64)
