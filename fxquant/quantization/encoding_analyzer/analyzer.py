"""Encoding analyzers turn observed tensors into the range that a quantizer covers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic

import torch
from typing_extensions import Self

from fxquant.errors import NotCalibratedError, OptionError, QuantizerError
from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.observer import Observer, StatisticsDict, Stats


class EncodingAnalyzer(ABC, Generic[Stats]):
    """Collects statistics of the tensors a quantizer sees and derives a range from them.

    Args:
        observer: Holds the statistics, and says which elements of a tensor share a range.
    """

    def __init__(self, observer: Observer[Stats]) -> None:
        self.observer = observer

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the range."""
        return self.observer.shape

    @property
    def block_size(self) -> tuple[int, ...] | None:
        """Block sizes by axis; None without blocks."""
        return self.observer.block_size

    @property
    def observed_range(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Smallest and largest value seen, each of ``shape``; None before the first tensor."""
        return self.observer.observed_range()

    @torch.no_grad()
    def update_stats(self, tensor: torch.Tensor) -> Stats:
        """Take in one float tensor and return its statistics alone; an empty tensor is ignored.

        Raises:
            QuantizerError: If ``shape`` and ``block_size`` do not fit the tensor.
        """
        return self.observer.update(tensor.detach())

    def resize(self, shape: Sequence[int], block_size: BlockSize = None) -> None:
        """Forget everything, and find ranges of another shape from now on."""
        self.observer.shape, self.observer.block_size = (
            tuple(shape),
            tuple(block_size) if block_size else None,
        )
        self.observer.reset_stats()

    def reset_stats(self) -> None:
        """Forget everything observed."""
        self.observer.reset_stats()

    def merge(self, other: Self) -> None:
        """Take in what another analyzer of the same kind has seen, for example in another process.

        Exact for min-max and for exact histograms: as if this analyzer had seen those tensors itself. The
        other observers say how they approximate it.

        Raises:
            QuantizerError: If the other analyzer is of another kind or shape.
        """
        mine, theirs = self.observer, other.observer
        if type(mine) is not type(theirs) or (mine.shape, mine.block_size) != (
            theirs.shape,
            theirs.block_size,
        ):
            raise QuantizerError(
                f"Statistics of {type(theirs).__name__}{theirs.shape} cannot be merged into "
                f"{type(mine).__name__}{mine.shape}.",
                remedy="Merge analyzers of the same kind, shape and block size.",
            )
        mine.merge(theirs)

    def statistics_dict(self) -> StatisticsDict:
        """Return everything observed as plain tensors and numbers, to save it or send it elsewhere."""
        return self.observer.statistics_dict()

    def load_statistics(self, statistics: StatisticsDict) -> None:
        """Replace everything observed by what ``statistics_dict`` returned.

        Raises:
            QuantizerError: If it comes from an analyzer of another kind or shape.
        """
        self.observer.load_statistics(statistics)

    def compute_encodings(self, num_steps: int, is_symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the range (min, max) for everything observed, each of ``shape``, float32 or wider.

        Args:
            num_steps: Number of steps of the grid, 255 for 8 bits.
            is_symmetric: Whether zero is to lie in the middle of the grid.

        Raises:
            OptionError: If there are no steps.
            NotCalibratedError: If nothing was observed.
        """
        return self.compute_encodings_from_stats(self.observer.get_stats(), num_steps, is_symmetric)

    def compute_dynamic_encodings(
        self, tensor: torch.Tensor, num_steps: int, is_symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the range for one tensor alone; arguments as ``compute_encodings``."""
        with torch.no_grad():
            stats = self.observer.collect_stats(tensor.detach())
        return self.compute_encodings_from_stats(stats, num_steps, is_symmetric)

    @torch.no_grad()
    def compute_encodings_from_stats(
        self, stats: Stats, num_steps: int, is_symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the range for given statistics; arguments as ``compute_encodings``."""
        if num_steps <= 0:
            raise OptionError(
                f"A grid of {num_steps} steps covers nothing.", remedy="Ask for at least 1 step."
            )
        if stats.is_empty:
            raise NotCalibratedError(
                "No tensor was observed.", remedy="Run data through the quantizer first."
            )
        minimum, maximum = self._find_range(stats, num_steps, is_symmetric)
        return minimum.reshape(self.shape), maximum.reshape(self.shape)

    @abstractmethod
    def _find_range(
        self, stats: Stats, num_steps: int, is_symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the range for statistics that are there, as many elements as ``shape`` has."""
