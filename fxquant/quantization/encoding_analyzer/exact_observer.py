"""ExactHistogramObserver: counts tensors into a histogram that depends only on what was seen."""

from collections.abc import Sequence

import torch
from typing_extensions import Self

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.exact_histogram import (
    FEWEST_BINS,
    ExactHistograms,
    count_exactly,
)
from fxquant.quantization.encoding_analyzer.histogram import EmptyHistograms, Histograms
from fxquant.quantization.encoding_analyzer.histogram_observer import HistogramObserver
from fxquant.quantization.encoding_analyzer.observer import (
    Observer,
    StatisticsDict,
    check_num_bins,
    tensors_of,
)
from fxquant.quantization.encoding_analyzer.rows import as_rows


class ExactHistogramObserver(Observer[Histograms]):
    """One exact histogram for each range (see ``exact_histogram``); merging is exact.

    Args:
        shape: Shape of the range.
        block_size: Block sizes by axis; None without blocks.
        num_bins: Number of bins of a histogram, at least 16.
        is_magnitude: Whether to count absolute values.

    Raises:
        OptionError: If there are too few bins.
    """

    def __init__(
        self,
        shape: Sequence[int] | int,
        *,
        block_size: BlockSize = None,
        num_bins: int,
        is_magnitude: bool = False,
    ) -> None:
        super().__init__(shape, block_size)
        check_num_bins(num_bins, FEWEST_BINS)
        self.num_bins = num_bins
        self.is_magnitude = is_magnitude
        self._total: ExactHistograms | None = None

    def reset_stats(self) -> None:
        self._total = None

    def get_stats(self) -> Histograms:
        return EmptyHistograms(self.num_ranges) if self._total is None else self._total

    def collect_stats(self, tensor: torch.Tensor) -> Histograms:
        if tensor.numel() == 0:
            return EmptyHistograms(self.num_ranges)
        rows = as_rows(tensor.detach(), self.shape, self.block_size)
        return count_exactly(rows, self.num_bins, self.is_magnitude)

    def merge_stats(self, stats: Histograms, tensor: torch.Tensor | None = None) -> None:
        if not stats.is_empty:
            exact = require_exact(stats)
            if (exact.bins.shape[1], exact.is_magnitude) != (self.num_bins, self.is_magnitude):
                raise QuantizerError("Exact histograms of other bins cannot be merged.")
            self._total = exact if self._total is None else self._total.merged(exact)

    def observed_range(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        if self._total is None:
            return None
        return self._total.minimum.reshape(self.shape), self._total.maximum.reshape(self.shape)

    def merge(self, other: Self) -> None:
        self.merge_stats(other.get_stats())

    def statistics_dict(self) -> StatisticsDict:
        return {} if self._total is None else self._total.to_dict()

    def load_statistics(self, statistics: StatisticsDict) -> None:
        self._total = None
        if statistics:
            n = self.num_ranges
            row = dict.fromkeys(("min", "max", "exponent", "first"), (n,))
            shapes = {**row, "bins": (n, self.num_bins), "infinities": (n, 2)}
            minimum, maximum, exponent, first, bins, infinities = tensors_of(statistics, shapes)
            self._total = ExactHistograms(
                minimum=minimum,
                maximum=maximum,
                exponent=exponent,
                first=first,
                bins=bins,
                infinities=infinities,
                is_magnitude=self.is_magnitude,
            )


def histogram_observer(
    shape: Sequence[int] | int,
    block_size: BlockSize,
    num_bins: int,
    *,
    exact: bool,
    growth_limit: float | None = None,
) -> Observer[Histograms]:
    """Return an observer with exact bins or with AIMET's.

    Raises:
        OptionError: If there are too few bins, or a growth limit for exact ones.
        QuantizerError: If the growth limit is below 1.
    """
    if not exact:
        return HistogramObserver(shape, block_size=block_size, num_bins=num_bins, growth_limit=growth_limit)
    if growth_limit is not None:
        raise OptionError("An exact histogram has no growth limit.", remedy="Leave out one of the two.")
    return ExactHistogramObserver(shape, block_size=block_size, num_bins=num_bins)


def require_exact(stats: Histograms) -> ExactHistograms:
    """Return statistics as the exact histograms that they must be.

    Raises:
        QuantizerError: If they are not.
    """
    if not isinstance(stats, ExactHistograms):
        raise QuantizerError(
            f"{type(stats).__name__} are not exact histograms.",
            remedy="Take the statistics of the analyzer's own observer.",
        )
    return stats
