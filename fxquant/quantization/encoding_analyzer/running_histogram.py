"""RunningHistogram: the exact histogram of one range, counted at the cost of a few copies of the data.

What ``ExactHistograms`` keeps in tensors, for any number of ranges on any device, are Python numbers here.
That makes the work around the counting some ten times as fast, which is what counts for one activation on the
CPU. The counts are the same.
"""

import functools
import math
from dataclasses import dataclass

import torch

from fxquant.quantization.encoding_analyzer.exact_histogram import (
    FINEST_EXPONENT,
    MANTISSA_BITS,
    ExactHistograms,
)

_LARGEST = 2**15 - 1
_LANES = 4  # counters of a bin: after a ReLU half of the values are zeros, each to wait for the one before
_CHUNK = 2**18  # elements turned into bin numbers at a time: they stay in the cache


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Counts of finite values in bins 2^exponent wide, of which the first begins at first * 2^exponent."""

    low: float
    high: float
    exponent: int
    first: int
    bins: torch.Tensor


class RunningHistogram:
    """The histogram of all tensors added so far, whatever their order.

    Args:
        num_bins: Number of bins, from 16 to 2^15 - 1.
    """

    def __init__(self, num_bins: int) -> None:
        self.num_bins = num_bins
        self._total: Counted | None = None
        self._spare: torch.Tensor | None = None

    @torch.inference_mode(False)  # or counts could not change once that mode ends
    def count(self, tensor: torch.Tensor, low: float, high: float) -> Counted:
        """Return the counts of one tensor, in bins that also hold the total; the total stays as it is.

        Args:
            tensor: Float tensor on the CPU, of finite values, at least one.
            low: Its smallest value.
            high: Its largest value.
        """
        total = self._total
        span = (low, high) if total is None else (min(low, total.low), max(high, total.high))
        exponent, first = placement(*span, self.num_bins)
        spare, self._spare = self._spare, None
        bins = torch.zeros(self.num_bins, dtype=torch.int64) if spare is None else spare.zero_()
        _count(as_one_row(tensor), exponent, first, bins)
        return Counted(low=low, high=high, exponent=exponent, first=first, bins=bins)

    @torch.inference_mode(False)
    def reserve(self) -> None:
        """Take the memory of one tensor's counts now, rather than in between that of tensors."""
        self._spare = torch.zeros(self.num_bins, dtype=torch.int64)

    @torch.inference_mode(False)
    def add(self, counted: Counted) -> None:
        """Add what ``count`` returned, which is then used up."""
        total = self._total
        if total is None:
            self._total = counted
            self.reserve()
            return
        low, high = min(total.low, counted.low), max(total.high, counted.high)
        exponent, first = placement(low, high, self.num_bins)
        bins = _moved(total, exponent, first).add_(_moved(counted, exponent, first))
        self._total = Counted(low=low, high=high, exponent=exponent, first=first, bins=bins)
        self._spare = counted.bins

    def histograms(self) -> ExactHistograms | None:
        """Return the total as histograms of one range; None where nothing was added."""
        total = self._total
        if total is None:
            return None
        return ExactHistograms(
            minimum=torch.tensor([total.low], dtype=torch.float32),
            maximum=torch.tensor([total.high], dtype=torch.float32),
            exponent=torch.tensor([total.exponent]),
            first=torch.tensor([total.first]),
            bins=total.bins.clone()[None],
            infinities=torch.zeros(1, 2, dtype=torch.int64),
            is_magnitude=False,
        )

    def add_histograms(self, histograms: ExactHistograms) -> None:
        """Add histograms of one range, of as many bins, without infinite values."""
        low, high = histograms.minimum.item(), histograms.maximum.item()
        if low <= high:
            self.add(
                Counted(
                    low=low,
                    high=high,
                    exponent=int(histograms.exponent),
                    first=int(histograms.first),
                    bins=histograms.bins[0].clone(),
                )
            )


def as_one_row(tensor: torch.Tensor) -> torch.Tensor:
    """Return the elements as one row, in whatever order takes no copy."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).reshape(-1)


def placement(low: float, high: float, num_bins: int) -> tuple[int, int]:
    """Return exponent and number of the first bin for float32 values in [low, high]."""
    exponent = FINEST_EXPONENT
    if low != high:
        exponent = math.frexp((high - low) / num_bins)[1] - 1
        while _number(high, exponent) - _number(low, exponent) >= num_bins:
            exponent += 1
    largest = max(-low, high)
    finest = math.frexp(largest)[1] - MANTISSA_BITS if largest else FINEST_EXPONENT
    exponent = max(exponent, finest, FINEST_EXPONENT)
    return exponent, _number(low, exponent)


def _number(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _count(flat: torch.Tensor, exponent: int, first: int, counts: torch.Tensor) -> None:
    """Add to counts, int64 [num_bins], float values [n], in bins that hold them all."""
    num_bins = len(counts)
    scale = 2.0**-exponent
    is_near_zero = -_LARGEST < first < _LARGEST - num_bins
    has_lanes = first == 0 and _LANES * num_bins <= _LARGEST
    # memory that is taken once: fresh pages of each piece would cost as much as counting it
    numbers = torch.empty(min(len(flat), _CHUNK))
    codes = torch.empty(len(numbers), dtype=torch.int16)
    for piece in torch.split(flat, _CHUNK):
        if len(piece) < len(numbers):
            numbers, codes = numbers[: len(piece)], codes[: len(piece)]
        if exponent > 0:  # or a tiny negative value would become -0 and leave its bin
            piece = piece.floor()
        torch.mul(piece.float(), scale, out=numbers)
        if first < 0 or not is_near_zero:
            numbers.floor_()  # from 0 on, turning them into integers cuts off the fraction
        if has_lanes:
            codes.copy_(numbers).add_(_lanes(num_bins)[: len(codes)])
            counts += torch.bincount(codes, minlength=_LANES * num_bins).view(_LANES, -1).sum(dim=0)
            continue
        if is_near_zero:
            codes.copy_(numbers).sub_(first)  # in half the memory
        else:
            codes.copy_(numbers.sub_(first))
        counts += torch.bincount(codes, minlength=num_bins)


@functools.lru_cache(maxsize=8)
def _lanes(num_bins: int) -> torch.Tensor:
    """Return where the counters of neighbouring elements begin: 0, num_bins, 2 * num_bins, ..., and again."""
    starts = num_bins * torch.arange(_LANES, dtype=torch.int16)
    return starts.repeat(_CHUNK // _LANES)


def _moved(counted: Counted, exponent: int, first: int) -> torch.Tensor:
    """Return the counts in bins at least as wide that hold these."""
    if (counted.exponent, counted.first) == (exponent, first):
        return counted.bins
    numbers = torch.arange(counted.first, counted.first + len(counted.bins))
    target = (numbers >> min(exponent - counted.exponent, 62)) - first
    # a bin whose target lies outside is empty: the used ones fit
    bins = torch.zeros_like(counted.bins)
    return bins.scatter_add_(0, target.clamp(0, len(bins) - 1), counted.bins)
