"""Min-max: the range of everything that was seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from typing_extensions import Self

from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.analyzer import EncodingAnalyzer
from fxquant.quantization.encoding_analyzer.cover import cover
from fxquant.quantization.encoding_analyzer.observer import Observer, StatisticsDict, tensors_of
from fxquant.quantization.encoding_analyzer.rows import reduce_to_shape


@dataclass(frozen=True, eq=False)
class MinMaxRange:
    """Smallest and largest value of each range, of the observer's shape; both None where nothing was seen."""

    min: torch.Tensor | None = None
    max: torch.Tensor | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was seen."""
        return self.min is None

    def bounds(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return both values of a range that is not empty."""
        assert self.min is not None and self.max is not None
        return self.min, self.max


class MinMaxObserver(Observer[MinMaxRange]):
    """Running minimum and maximum, in the widest type of the tensors; NaN once a tensor holds one.

    The total does not depend on the order of the tensors nor on how they are cut into batches, and taking
    in a tensor never waits for the device.
    """

    def __init__(self, shape: Sequence[int] | int, block_size: BlockSize = None) -> None:
        super().__init__(shape, block_size)
        self._total = MinMaxRange()

    def get_stats(self) -> MinMaxRange:
        return self._total

    def collect_stats(self, tensor: torch.Tensor) -> MinMaxRange:
        if tensor.numel() == 0:
            return MinMaxRange()
        return MinMaxRange(*reduce_to_shape(tensor.detach(), self.shape, self.block_size))

    def merge_stats(self, stats: MinMaxRange, tensor: torch.Tensor | None = None) -> None:
        if self._total.is_empty or stats.is_empty:
            self._total = self._total if stats.is_empty else stats
            return
        (minimum, maximum), (new_minimum, new_maximum) = self._total.bounds(), stats.bounds()
        self._total = MinMaxRange(torch.minimum(minimum, new_minimum), torch.maximum(maximum, new_maximum))

    def reset_stats(self) -> None:
        self._total = MinMaxRange()

    def observed_range(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        return None if self._total.is_empty else self._total.bounds()

    def merge(self, other: Self) -> None:
        self.merge_stats(other.get_stats())

    def statistics_dict(self) -> StatisticsDict:
        return {} if self._total.is_empty else dict(zip(("min", "max"), self._total.bounds(), strict=True))

    def load_statistics(self, statistics: StatisticsDict) -> None:
        shapes = {"min": self.shape, "max": self.shape}
        self._total = MinMaxRange(*tensors_of(statistics, shapes)) if statistics else MinMaxRange()


class MinMaxEncodingAnalyzer(EncodingAnalyzer[MinMaxRange]):
    """Covers everything that was seen, see ``cover`` for the arithmetic.

    Args:
        shape: Shape of the range: () for one range per tensor, otherwise broadcastable against the tensors.
        block_size: Block sizes by axis; None without blocks.
    """

    def __init__(self, shape: Sequence[int] | int, block_size: BlockSize = None) -> None:
        super().__init__(MinMaxObserver(shape, block_size))

    def _find_range(
        self, stats: MinMaxRange, num_steps: int, is_symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return cover(*stats.bounds(), num_steps, is_symmetric)
