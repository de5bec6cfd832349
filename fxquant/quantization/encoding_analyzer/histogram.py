"""Histograms of several ranges at once, as the analyzers read them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch

from fxquant.errors import NotCalibratedError


@dataclass(frozen=True, kw_only=True, eq=False)
class Histogram:
    """The histogram of one range; every field is None where nothing was seen."""

    histogram: torch.Tensor | None = None
    """Counts, [num_bins]."""
    bin_edges: torch.Tensor | None = None
    """Ends of the bins, rising, [num_bins + 1]."""
    min: torch.Tensor | None = None
    """Smallest finite value seen, []."""
    max: torch.Tensor | None = None
    """Largest finite value seen, []."""


class Histograms(ABC):
    """Histograms of n ranges, of equal bins in each; also a sequence of n ``Histogram``.

    Args:
        minimum: Smallest finite value of each range, [n]; inf where there is none.
        maximum: Largest finite value, [n]; -inf where there is none.
    """

    has_exact_ends: ClassVar[bool] = False
    """Whether the ends are the minimum and the maximum, even where the outer bins reach beyond."""

    def __init__(self, minimum: torch.Tensor, maximum: torch.Tensor) -> None:
        self.minimum = minimum
        self.maximum = maximum

    @property
    @abstractmethod
    def bin_edges(self) -> torch.Tensor:
        """Ends of the bins, float32 [n, num_bins + 1]."""

    @property
    @abstractmethod
    def counts(self) -> torch.Tensor:
        """Number of elements in each bin, a float type, [n, num_bins]."""

    @property
    def centers(self) -> torch.Tensor:
        """Middle of each bin, float32 [n, num_bins]."""
        left, width = self.bin_edges[:, 0], self.bin_edges[:, 1] - self.bin_edges[:, 0]
        numbers = torch.arange(self.bin_edges.shape[1] - 1, dtype=torch.float32, device=left.device)
        return (left + width / 2)[:, None] + width[:, None] * numbers

    @property
    def is_empty(self) -> bool:
        """Whether nothing was seen."""
        return False

    def __len__(self) -> int:
        return len(self.minimum)

    def __getitem__(self, index: int) -> Histogram:
        return Histogram(
            histogram=self.counts[index],
            bin_edges=self.bin_edges[index],
            min=self.minimum[index],
            max=self.maximum[index],
        )

    def __iter__(self) -> Iterator[Histogram]:
        return (self[index] for index in range(len(self)))


class EmptyHistograms(Histograms):
    """What was seen of n ranges before anything was.

    Args:
        size: n.
    """

    def __init__(self, size: int) -> None:
        super().__init__(torch.full((size,), torch.inf), torch.full((size,), -torch.inf))

    @property
    def bin_edges(self) -> torch.Tensor:
        raise _nothing_seen()

    @property
    def counts(self) -> torch.Tensor:
        raise _nothing_seen()

    @property
    def is_empty(self) -> bool:
        return True

    def __getitem__(self, index: int) -> Histogram:
        if index not in range(-len(self), len(self)):
            raise IndexError(f"There are {len(self)} histograms, not one of number {index}.")
        return Histogram()


class CountedHistograms(Histograms):
    """Histograms whose counts are given, or taken the first time that they are asked for.

    Args:
        minimum: Smallest finite value of each range, [n].
        maximum: Largest finite value, [n].
        bin_edges: Ends of the bins, float32 [n, num_bins + 1].
        counts: Float32 [n, num_bins], or what returns them.
    """

    def __init__(
        self,
        minimum: torch.Tensor,
        maximum: torch.Tensor,
        bin_edges: torch.Tensor,
        counts: torch.Tensor | Callable[[], torch.Tensor],
    ) -> None:
        super().__init__(minimum, maximum)
        self._bin_edges = bin_edges
        self._counts = counts

    @property
    def bin_edges(self) -> torch.Tensor:
        return self._bin_edges

    @property
    def counts(self) -> torch.Tensor:
        if not isinstance(self._counts, torch.Tensor):
            self._counts = self._counts()
        return self._counts


def _nothing_seen() -> NotCalibratedError:
    return NotCalibratedError("No tensor was observed.", remedy="Run data through the quantizer first.")
