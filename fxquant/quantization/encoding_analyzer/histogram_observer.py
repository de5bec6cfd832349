"""HistogramObserver: counts tensors into bins that follow the range of the data."""

import math
from collections.abc import Sequence

import torch
from typing_extensions import Self

from fxquant.errors import QuantizerError
from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.counting import count_between, finite_range
from fxquant.quantization.encoding_analyzer.growing_histogram import (
    edges_between,
    grown_range,
    growth_limits,
    moved_counts,
)
from fxquant.quantization.encoding_analyzer.histogram import CountedHistograms, EmptyHistograms, Histograms
from fxquant.quantization.encoding_analyzer.observer import (
    Observer,
    StatisticsDict,
    check_num_bins,
    tensors_of,
)
from fxquant.quantization.encoding_analyzer.rows import as_rows

_FARTHEST = 2.0**100  # a range up to here, times a number of bins, does not overflow float32


class HistogramObserver(Observer[Histograms]):
    """One histogram for each range, with AIMET's bins and counts (see ``growing_histogram``).

    Infinite values, and those beyond 2^100, count in the outer bins, NaN nowhere; the range leaves them out.

    Merging is approximate: the counts of both are moved to bins that hold both ranges. The total is exact.

    Args:
        shape: Shape of the range.
        block_size: Block sizes by axis; None without blocks.
        num_bins: Number of bins of a histogram.
        growth_limit: How far the range may grow beyond that of the first tensor, in all, as a multiple of its
            width; at least 1. None for no limit.

    Raises:
        OptionError: If there are no bins.
        QuantizerError: If the growth limit is below 1.
    """

    def __init__(
        self,
        shape: Sequence[int] | int,
        *,
        block_size: BlockSize = None,
        num_bins: int,
        growth_limit: float | None = None,
    ) -> None:
        super().__init__(shape, block_size)
        check_num_bins(num_bins)
        check_growth_limit(growth_limit)
        self.num_bins = num_bins
        self.growth_limit = math.inf if growth_limit is None else growth_limit
        self.reset_stats()

    def reset_stats(self) -> None:
        self._total: Histograms = EmptyHistograms(self.num_ranges)
        self._limits = torch.empty(self.num_ranges, 2)

    def get_stats(self) -> Histograms:
        return self._total

    def collect_stats(self, tensor: torch.Tensor) -> Histograms:
        """Return the histograms of one tensor alone.

        They are counted when first asked for, as most callers need only the total; so ask before the tensor
        is changed in place.
        """
        if tensor.numel() == 0:
            return EmptyHistograms(self.num_ranges)
        tensor = tensor.detach()
        rows = as_rows(tensor, self.shape, self.block_size)
        minimum, maximum = (_clipped(end) for end in finite_range(rows))
        edges = edges_between(minimum, maximum, self.num_bins)
        version = None if tensor.is_inference() else tensor._version

        def count() -> torch.Tensor:
            if version is not None and tensor._version != version:
                raise QuantizerError(
                    "The tensor was changed in place before its histogram was counted.",
                    remedy="Read the counts of a batch right after collecting them.",
                )
            return count_between(rows, edges[:, 0], edges[:, -1], self.num_bins)

        return CountedHistograms(minimum, maximum, edges, count)

    def merge_stats(self, stats: Histograms, tensor: torch.Tensor | None = None) -> None:
        if stats.is_empty:
            return
        if self._total.is_empty:
            self._start(stats)
            return
        if tensor is None:
            self._merge_counted(stats)
            return
        old = self._with_unseen_ranges_started(stats)
        minimum, maximum = grown_range(old, stats.minimum, stats.maximum, self._limits)
        rows = as_rows(tensor.detach(), self.shape, self.block_size)
        counts = count_between(rows, minimum.float(), maximum.float(), self.num_bins)
        self._set(old, minimum, maximum, counts.add_(moved_counts(old, minimum, maximum)))

    def observed_range(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        if self._total.is_empty:
            return None
        return self._total.minimum.reshape(self.shape), self._total.maximum.reshape(self.shape)

    def merge(self, other: Self) -> None:
        if other.num_bins != self.num_bins:
            raise QuantizerError(f"Histograms of {other.num_bins} and {self.num_bins} bins cannot be merged.")
        self.merge_stats(other.get_stats())

    def statistics_dict(self) -> StatisticsDict:
        total = self._total
        if total.is_empty:
            return {}
        return {
            "counts": total.counts,
            "bin_edges": total.bin_edges,
            "min": total.minimum,
            "max": total.maximum,
            "limits": self._limits,
        }

    def load_statistics(self, statistics: StatisticsDict) -> None:
        self.reset_stats()
        if statistics:
            n, bins = self.num_ranges, self.num_bins
            shapes = {
                "min": (n,),
                "max": (n,),
                "bin_edges": (n, bins + 1),
                "counts": (n, bins),
                "limits": (n, 2),
            }
            minimum, maximum, edges, counts, limits = tensors_of(statistics, shapes)
            self._total, self._limits = CountedHistograms(minimum, maximum, edges, counts), limits

    def _start(self, stats: Histograms) -> None:
        self._total = CountedHistograms(stats.minimum, stats.maximum, stats.bin_edges, stats.counts)
        self._limits = growth_limits(stats.bin_edges, self.growth_limit)

    def _set(
        self, old: Histograms, minimum: torch.Tensor, maximum: torch.Tensor, counts: torch.Tensor
    ) -> None:
        is_unseen = old.minimum > old.maximum  # still
        minimum, maximum = (
            minimum.masked_fill(is_unseen, torch.inf),
            maximum.masked_fill(is_unseen, -torch.inf),
        )
        edges = edges_between(minimum, maximum, self.num_bins)
        self._total = CountedHistograms(minimum, maximum, edges, counts)

    def _merge_counted(self, stats: Histograms) -> None:
        old = self._with_unseen_ranges_started(stats)
        is_unseen = stats.minimum > stats.maximum
        low = stats.bin_edges[:, 0].masked_fill(is_unseen, torch.inf)
        high = stats.bin_edges[:, -1].masked_fill(is_unseen, -torch.inf)
        minimum, maximum = grown_range(old, low, high, self._limits)
        counts = moved_counts(old, minimum, maximum) + moved_counts(stats, minimum, maximum)
        self._set(old, minimum, maximum, counts)

    def _with_unseen_ranges_started(self, stats: Histograms) -> Histograms:
        """Return the total; ranges without a finite value so far take bins and limits of the new ones."""
        total = self._total
        is_unseen = total.minimum > total.maximum
        if not bool(is_unseen.any()):
            return total
        edges = torch.where(is_unseen[:, None], stats.bin_edges, total.bin_edges)
        fresh = growth_limits(edges, self.growth_limit)
        self._limits = torch.where(is_unseen[:, None], fresh, self._limits)
        return CountedHistograms(
            torch.where(is_unseen, stats.minimum, total.minimum),
            torch.where(is_unseen, stats.maximum, total.maximum),
            edges,
            total.counts,
        )


def check_growth_limit(growth_limit: float | None) -> None:
    """Check how far a range may grow.

    Raises:
        QuantizerError: If it is below 1.
    """
    if growth_limit is not None and growth_limit < 1.0:
        raise QuantizerError(
            f"Growth limit must be at least 1.0. Got {growth_limit}.", remedy="Use None for no limit."
        )


def _clipped(end: torch.Tensor) -> torch.Tensor:
    """Return ends of ranges, finite ones within ``_FARTHEST``."""
    limit = min(_FARTHEST, torch.finfo(end.dtype).max)
    return torch.where(end.isfinite(), end.clamp(-limit, limit), end)
