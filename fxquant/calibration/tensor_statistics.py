"""TensorStatistics: what was seen of one tensor."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch

from fxquant.calibration.channel_ranges import ChannelRanges
from fxquant.calibration.masks import LOWEST, shown
from fxquant.errors import StatisticsError
from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer import (
    ExactHistogramObserver,
    ExactHistograms,
    MinMaxObserver,
    MinMaxRange,
    MovingAverageObserver,
)
from fxquant.quantization.encoding_analyzer.counting import may_wait
from fxquant.quantization.encoding_analyzer.running_histogram import (
    Counted,
    RunningHistogram,
    as_one_row,
)

NUM_BINS = 4096
"""Bins of a histogram of values: 2,048 of their magnitudes, as entropy wants, follow from them."""


class Kind(Enum):
    """A kind of statistics."""

    RANGE = "range"
    AVERAGE = "average"
    HISTOGRAM = "histogram"
    CHANNELS = "channels"


@dataclass(frozen=True, kw_only=True)
class Ends:
    """The smallest and the largest value of a tensor as numbers.

    Small tensors that outlive large ones around them would keep their memory from being used again: the peak
    of a calibration grew to twice that of the float forward.
    """

    low: float
    high: float
    dtype: torch.dtype

    @property
    def is_finite(self) -> bool:
        """Whether both are, and none is NaN."""
        return -math.inf < self.low and self.high < math.inf

    def as_range(self) -> MinMaxRange:
        """Return them as tensors of their type."""
        low, high = (torch.tensor(end, dtype=self.dtype) for end in (self.low, self.high))
        return MinMaxRange(low, high)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one batch shows of a tensor, not yet part of the total.

    Attributes:
        ends: Its smallest and largest value, as numbers where they are known; None where no value is shown.
        counts: Its histogram; None where none is wanted, or an end is not finite.
        channels: The ends of its channels, [2, channels]; None where they are not wanted, or masks hide some.
        is_masked: Whether masks hide some of its values, which are left out.
        is_integer: Whether it is no float tensor.
        is_empty: Whether it has no elements.
    """

    ends: Ends | MinMaxRange | None = None
    counts: Counted | ExactHistograms | None = None
    channels: torch.Tensor | None = None
    is_masked: bool = False
    is_integer: bool = False
    is_empty: bool = False


class TensorStatistics:
    """Running statistics of one tensor: always its range, other kinds where they are wanted.

    ``look`` at a batch changes nothing, ``add`` what it returned makes it part of the total: so a batch
    counts wholly or not at all. Neither waits for a device that is not the CPU.

    Args:
        kinds: The kinds wanted.
        shape: Shape of the range: () for one range per tensor.
        block_size: Block sizes by axis; None without blocks.
        channel_axis: The axis whose ranges the kind CHANNELS holds, as for ``ChannelRanges``.

    Attributes:
        channels: The ranges of its channels.
        is_masked: Whether masks hid values.
        is_integer: Whether it was no float tensor in some batch.
        is_empty: Whether it had no elements in some batch.
    """

    def __init__(
        self,
        kinds: Iterable[Kind] = (),
        shape: tuple[int, ...] = (),
        block_size: BlockSize = None,
        channel_axis: int | None = None,
    ) -> None:
        self.channels = ChannelRanges(channel_axis)
        self.kinds = frozenset({Kind.RANGE, *kinds})
        self.shape, self.block_size = shape, tuple(block_size) if block_size else None
        self.is_masked = self.is_integer = self.is_empty = False
        self._range = MinMaxObserver(shape, block_size)
        self._average = MovingAverageObserver(shape, block_size=block_size)
        self._running = RunningHistogram(NUM_BINS)
        self._histogram = ExactHistogramObserver(shape, block_size=block_size, num_bins=NUM_BINS)

    def reserve(self) -> None:
        """Take the memory that looking at a tensor needs for longer than it lasts."""
        if Kind.HISTOGRAM in self.kinds and not self.shape:
            self._running.reserve()

    @property
    def has_range(self) -> bool:
        """Whether any value was seen."""
        return not self._range.get_stats().is_empty

    def look(self, tensor: torch.Tensor) -> Seen:
        """Return what one float tensor, which has elements, shows."""
        if self.is_masked:
            return self._look_shown(tensor)
        if self.shape or not may_wait(tensor):
            return Seen(
                ends=self._range.collect_stats(tensor),
                counts=self._counted_rows(tensor),
                channels=self._channel_ends(tensor),
            )
        row = as_one_row(tensor)  # torch takes ten times as long for the ends of a slice
        ends = _ends(row)
        if ends.low <= LOWEST:
            return self._look_shown(row)
        return Seen(ends=ends, counts=self._counted(row, ends), channels=self._channel_ends(tensor))

    def add(self, seen: Seen) -> None:
        """Make what a batch showed part of the total."""
        self.is_masked |= seen.is_masked
        self.is_integer |= seen.is_integer
        self.is_empty |= seen.is_empty
        if seen.ends is None:
            return
        ends = seen.ends.as_range() if isinstance(seen.ends, Ends) else seen.ends
        self._range.merge_stats(ends)
        if Kind.AVERAGE in self.kinds:
            self._average.merge_stats(ends)
        if isinstance(seen.counts, Counted):
            self._running.add(seen.counts)
        elif seen.counts is not None:
            self._histogram.merge_stats(seen.counts)
        if seen.channels is not None:
            self.channels.add(seen.channels)

    def range(self) -> MinMaxRange:
        """Return the smallest and the largest value seen."""
        return self._range.get_stats()

    def average(self) -> MinMaxRange:
        """Return the moving average of both.

        Raises:
            StatisticsError: If it was not collected.
        """
        self._require(Kind.AVERAGE)
        return self._average.get_stats()

    def histogram(self) -> ExactHistograms | None:
        """Return the histogram, of ``NUM_BINS`` bins; None where nothing was seen.

        Raises:
            StatisticsError: If it was not collected.
        """
        self._require(Kind.HISTOGRAM)
        rows = self._histogram.get_stats()
        counted = self._running.histograms()
        if not isinstance(rows, ExactHistograms):
            return counted
        return rows if counted is None else rows.merged(counted)

    def is_like(self, other: "TensorStatistics") -> bool:
        """Whether another one is of the same kinds and shape."""
        return (self.kinds, self.shape, self.block_size) == (other.kinds, other.shape, other.block_size)

    def merge(self, other: "TensorStatistics") -> None:
        """Add what another process, or another run, saw of the tensor: exact but for the moving average.

        Raises:
            StatisticsError: If the other has not the same kinds and shape.
        """
        if not self.is_like(other):
            raise StatisticsError("They are of other kinds or of another shape.")
        self.is_masked |= other.is_masked
        self.is_integer |= other.is_integer
        self.is_empty |= other.is_empty
        self._range.merge(other._range)
        if Kind.AVERAGE in self.kinds:
            self._average.merge(other._average)
        if Kind.HISTOGRAM in self.kinds:
            self._merge_histogram(other.histogram())
        self.channels.merge(other.channels)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain tensors, numbers and lists."""
        histogram = self.histogram() if Kind.HISTOGRAM in self.kinds else None
        return {
            "kinds": sorted(kind.value for kind in self.kinds),
            "shape": list(self.shape),
            "block_size": None if self.block_size is None else list(self.block_size),
            "is_masked": self.is_masked,
            "is_integer": self.is_integer,
            "is_empty": self.is_empty,
            "range": self._range.statistics_dict(),
            "average": self._average.statistics_dict(),
            "histogram": {} if histogram is None else histogram.to_dict(),
            "channels": self.channels.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TensorStatistics":
        """Return what ``to_dict`` was called on.

        Raises:
            KeyError, TypeError, ValueError, QuantizerError: If the values are not what it returned.
        """
        block_size = values["block_size"]
        found = cls(
            [Kind(kind) for kind in values["kinds"]],
            tuple(values["shape"]),
            None if block_size is None else tuple(block_size),
        )
        found.is_masked, found.is_integer = bool(values["is_masked"]), bool(values["is_integer"])
        found.is_empty = bool(values["is_empty"])
        found._range.load_statistics(values["range"])
        found._average.load_statistics(values["average"])
        rows = ExactHistogramObserver(found.shape, block_size=found.block_size, num_bins=NUM_BINS)
        rows.load_statistics(values["histogram"])
        histogram = rows.get_stats()
        found._merge_histogram(histogram if isinstance(histogram, ExactHistograms) else None)
        if "channels" in values:  # files of before have none
            found.channels = ChannelRanges.from_dict(values["channels"])
        return found

    def _look_shown(self, tensor: torch.Tensor) -> Seen:
        """Return what a tensor shows where no mask hides it."""
        values = shown(tensor)
        if values.numel() == 0:
            return Seen(ends=None, is_masked=True)
        row = as_one_row(values.cpu())
        ends = _ends(row)
        return Seen(ends=ends, counts=self._counted(row, ends), is_masked=values is not tensor)

    def _counted(self, row: torch.Tensor, ends: Ends) -> Counted | None:
        if Kind.HISTOGRAM not in self.kinds or not ends.is_finite:
            return None
        counted = row.float() if row.dtype is torch.float64 else row
        known = ends if counted is row else _ends(counted)  # rounded, as the values are
        return self._running.count(counted, known.low, known.high) if known.is_finite else None

    def _channel_ends(self, tensor: torch.Tensor) -> torch.Tensor | None:
        return self.channels.look(tensor) if Kind.CHANNELS in self.kinds else None

    def _counted_rows(self, tensor: torch.Tensor) -> ExactHistograms | None:
        if Kind.HISTOGRAM not in self.kinds:
            return None
        counts = self._histogram.collect_stats(tensor)
        assert isinstance(counts, ExactHistograms)  # the tensor has elements
        return counts

    def _merge_histogram(self, histogram: ExactHistograms | None) -> None:
        if histogram is None:
            return
        if self.shape or histogram.bins.device.type != "cpu":
            self._histogram.merge_stats(histogram)
        else:
            self._running.add_histograms(histogram)

    def _require(self, kind: Kind) -> None:
        if kind not in self.kinds:
            raise StatisticsError(
                f"No statistics of the kind '{kind.value}' were collected.",
                remedy="Name the method when collecting: collect_statistics(..., methods=[...]).",
            )


def _ends(row: torch.Tensor) -> Ends:
    low, high = torch.aminmax(row)
    return Ends(low=low.item(), high=high.item(), dtype=row.dtype)
