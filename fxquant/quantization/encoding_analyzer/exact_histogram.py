"""The exact histogram: one whose state depends only on which values were seen.

Bins are 2^k wide and their ends are multiples of 2^k, so two neighbours make one bin of the next k, and a
count is only ever moved together with that of its neighbour. k is the smallest exponent at which all values
fit the number of bins, and at which bin numbers are exact in float32. Both rules ask for an exponent that can
only grow with the set of values, hence the result is the same in whatever order, batches or processes they
come.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from fxquant.quantization.encoding_analyzer.counting import count, finite_range, may_wait
from fxquant.quantization.encoding_analyzer.histogram import Histograms

FEWEST_BINS = 16  # below that, the scale 2^-k of the widest range would be a subnormal float32
FINEST_EXPONENT = -126  # that of the smallest normal float32
MANTISSA_BITS = 24
_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True, kw_only=True, eq=False)
class ExactHistograms(Histograms):
    """Counts of n ranges in bins of width 2^exponent; together with ``merged`` a commutative monoid."""

    has_exact_ends: ClassVar[bool] = True

    minimum: torch.Tensor
    """Smallest finite value of each range, float32 [n]; inf where there is none."""
    maximum: torch.Tensor
    """Largest finite value, float32 [n]; -inf where there is none."""
    exponent: torch.Tensor
    """k: a bin is 2^k wide; int64 [n]."""
    first: torch.Tensor
    """Number of the first bin: it begins at first * 2^k; int64 [n]."""
    bins: torch.Tensor
    """Counts of finite values, int64 [n, num_bins]."""
    infinities: torch.Tensor
    """Counts of -inf and of inf, int64 [n, 2]; of magnitudes the second alone."""
    is_magnitude: bool
    """Whether the bins count absolute values, and the minimum and maximum the values themselves."""

    @property
    def bin_edges(self) -> torch.Tensor:
        numbers = torch.arange(self.bins.shape[1] + 1, device=self.bins.device)
        edges = (self.first[:, None] + numbers) * power_of_two(self.exponent)[:, None]
        return edges.clamp(-_LARGEST, _LARGEST).float()

    @property
    def counts(self) -> torch.Tensor:
        """Number of values in each bin, infinite ones in the outermost used bin; float64 [n, num_bins]."""
        _, high = _span(self.minimum, self.maximum, self.is_magnitude)
        last = _bin_number(high, self.exponent) - self.first
        below, above = self.infinities.double().unbind(dim=1)
        counts = self.bins.double()
        counts[:, 0] += below
        return counts.scatter_add_(1, last[:, None], above[:, None])

    @property
    def counts_without_zeros(self) -> torch.Tensor:
        """Number of finite values in each bin but for exact zeros, float64 [n, num_bins].

        A grid that holds zero rounds them without error, and after a ReLU they are half of the data. They are
        what the bin that begins at zero holds more than the fuller one of its neighbours.
        """
        counts = self.bins.double()
        last = counts.shape[1] - 1
        at_zero = -self.first[:, None]
        around = torch.cat((at_zero - 1, at_zero + 1), dim=1)
        is_there = (around >= 0) & (around <= last)
        neighbours = counts.gather(1, around.clamp(0, last)).masked_fill_(~is_there, 0.0)
        held = counts.gather(1, at_zero.clamp(0, last))
        kept = torch.where((at_zero >= 0) & (at_zero <= last), neighbours.amax(1, keepdim=True), held)
        return counts.scatter_(1, at_zero.clamp(0, last), torch.minimum(held, kept))

    def to_dict(self) -> dict[str, torch.Tensor | int | float]:
        """Return the state as ``ExactHistogramObserver.load_statistics`` reads it."""
        return {
            "min": self.minimum,
            "max": self.maximum,
            "exponent": self.exponent,
            "first": self.first,
            "bins": self.bins,
            "infinities": self.infinities,
        }

    def magnitudes(self, num_bins: int) -> "ExactHistograms":
        """Return the histograms of absolute values, from at least twice as many bins of the values.

        But for negative values at the very edge of a bin, it is what counting magnitudes gives.
        """
        exponent, first = _placement(self.minimum, self.maximum, True, num_bins)
        numbers = self.first[:, None] + torch.arange(self.bins.shape[1], device=self.bins.device)
        mirrored = torch.where(numbers < 0, -1 - numbers, numbers)
        target = mirrored >> (exponent - self.exponent)[:, None].clamp_max(62)
        bins = self.bins.new_zeros(len(self), num_bins)
        return replace(
            self,
            exponent=exponent,
            first=first,
            bins=bins.scatter_add_(1, target.clamp(0, num_bins - 1), self.bins),
            infinities=torch.stack((torch.zeros_like(first), self.infinities.sum(dim=1)), dim=1),
            is_magnitude=True,
        )

    def merged(self, other: "ExactHistograms") -> "ExactHistograms":
        """Return the histograms of what either has seen; both of the same size, bins and device."""
        minimum = torch.minimum(self.minimum, other.minimum)
        maximum = torch.maximum(self.maximum, other.maximum)
        exponent, first = _placement(minimum, maximum, self.is_magnitude, self.bins.shape[1])
        return replace(
            self,
            minimum=minimum,
            maximum=maximum,
            exponent=exponent,
            first=first,
            bins=self._bins_at(exponent, first) + other._bins_at(exponent, first),
            infinities=self.infinities + other.infinities,
        )

    def _bins_at(self, exponent: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        """Return the counts in bins at least as wide that hold these."""
        is_same = may_wait(exponent) and torch.equal(exponent, self.exponent)
        if is_same and torch.equal(first, self.first):
            return self.bins
        numbers = self.first[:, None] + torch.arange(self.bins.shape[1], device=self.bins.device)
        target = (numbers >> (exponent - self.exponent)[:, None].clamp_max(62)) - first[:, None]
        # a bin whose target lies outside is empty: the used ones fit
        return torch.zeros_like(self.bins).scatter_add_(1, target.clamp(0, self.bins.shape[1] - 1), self.bins)


def count_exactly(rows: torch.Tensor, num_bins: int, is_magnitude: bool = False) -> ExactHistograms:
    """Return the exact histograms of the rows of a float tensor, taken as float32.

    Args:
        rows: Float tensor [n, m], m at least 1.
        num_bins: Number of bins, at least ``FEWEST_BINS``; more than half of them are used, unless the values
            are too close together for float32.
        is_magnitude: Whether to count absolute values.
    """
    rows = rows.float() if rows.dtype == torch.float64 else rows
    minimum, maximum = (end.float() for end in finite_range(rows))
    exponent, first = _placement(minimum, maximum, is_magnitude, num_bins)
    scale, start = power_of_two(-exponent).float()[:, None], first.float()[:, None]
    is_shrunk = not may_wait(rows) or bool((exponent > 0).any())

    def code(piece: torch.Tensor, which: slice) -> torch.Tensor:
        numbers = piece.abs().float() if is_magnitude else piece.float()
        if is_shrunk:  # floor before, or a tiny negative value would become -0 and leave its bin
            numbers = torch.where(scale[which] < 1, numbers.floor(), numbers)
        numbers = numbers.mul(scale[which]).floor_().sub_(start[which])
        return numbers.nan_to_num_(neginf=num_bins, posinf=num_bins + 1, nan=num_bins + 2)

    counts = count(rows, code, num_bins + 3)
    return ExactHistograms(
        minimum=minimum,
        maximum=maximum,
        exponent=exponent,
        first=first,
        bins=counts[:, :num_bins].contiguous(),
        infinities=counts[:, num_bins : num_bins + 2].contiguous(),
        is_magnitude=is_magnitude,
    )


def power_of_two(exponent: torch.Tensor) -> torch.Tensor:
    """Return 2^exponent, exactly: float64, from int64 in [-1022, 1023]."""
    return ((exponent + 1023) << 52).view(torch.float64)


def _placement(
    minimum: torch.Tensor, maximum: torch.Tensor, is_magnitude: bool, num_bins: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return exponent and number of the first bin for values in [minimum, maximum], each int64 [n]."""
    low, high = _span(minimum, maximum, is_magnitude)
    # Values do not fit where 2^k is at most span / num_bins, and fit where it is over twice that; one value
    # alone fits whatever k is.
    guess = _exponent((high - low) / num_bins)
    tried = guess[:, None] + torch.arange(-1, 3, device=guess.device)
    needed = _bin_number(high[:, None], tried) - _bin_number(low[:, None], tried)
    fitting = (tried[:, 0] + (needed >= num_bins).sum(dim=1)).masked_fill(low == high, FINEST_EXPONENT)
    finest = _exponent(torch.maximum(-low, high)) - MANTISSA_BITS
    exponent = torch.maximum(fitting, finest).clamp_min(FINEST_EXPONENT)
    return exponent, _bin_number(low, exponent)


def _span(
    minimum: torch.Tensor, maximum: torch.Tensor, is_magnitude: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the smallest and largest value to be binned, float64 [n]; zeros where there is none."""
    is_unseen = minimum > maximum
    low, high = (end.double().masked_fill(is_unseen, 0.0) for end in (minimum, maximum))
    return (torch.zeros_like(low), torch.maximum(-low, high)) if is_magnitude else (low, high)


def _exponent(value: torch.Tensor) -> torch.Tensor:
    """Return the smallest e with value < 2^e, int64; a small one where value is 0."""
    return torch.frexp(value).exponent.long().masked_fill(value == 0, FINEST_EXPONENT)


def _bin_number(value: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Return floor(value / 2^exponent), exactly: int64, for float32 values held as float64."""
    return (value * power_of_two(-exponent)).floor().long()
