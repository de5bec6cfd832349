"""Moving-average min-max: the range of a typical batch."""

from collections.abc import Sequence

import torch
from typing_extensions import Self

from fxquant.errors import OptionError
from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.analyzer import EncodingAnalyzer
from fxquant.quantization.encoding_analyzer.cover import cover
from fxquant.quantization.encoding_analyzer.min_max import MinMaxObserver, MinMaxRange
from fxquant.quantization.encoding_analyzer.observer import StatisticsDict


class MovingAverageObserver(MinMaxObserver):
    """Exponential moving average of the minimum and the maximum of each batch, in float32 or wider.

    The first batch is taken as it is; after that, for each end::

        average = momentum * average + (1 - momentum) * end of the batch

    which is the update of TensorFlow's ``assign_moving_average`` with that decay, and of torch's
    ``MovingAverageMinMaxObserver`` with ``averaging_constant = 1 - momentum``. The order of batches counts.

    Merging is approximate, as there is no order between processes: the mean of the two averages, weighted by
    their numbers of batches.
    """

    def __init__(
        self, shape: Sequence[int] | int, momentum: float = 0.9, block_size: BlockSize = None
    ) -> None:
        super().__init__(shape, block_size)
        if not 0.0 <= momentum < 1.0:
            raise OptionError(
                f"A momentum of {momentum} makes no moving average.", remedy="Choose one in [0, 1)."
            )
        self.momentum = momentum
        self._num_batches = 0

    def merge_stats(self, stats: MinMaxRange, tensor: torch.Tensor | None = None) -> None:
        if not stats.is_empty:
            self._move(stats, 1.0 - self.momentum if self._num_batches else 1.0, num_batches=1)

    def reset_stats(self) -> None:
        super().reset_stats()
        self._num_batches = 0

    def merge(self, other: Self) -> None:
        if other._num_batches:
            share = other._num_batches / (self._num_batches + other._num_batches)
            self._move(other.get_stats(), share, other._num_batches)

    def statistics_dict(self) -> StatisticsDict:
        bounds = super().statistics_dict()
        return {**bounds, "num_batches": self._num_batches} if bounds else {}

    def load_statistics(self, statistics: StatisticsDict) -> None:
        super().load_statistics(statistics)
        self._num_batches = int(statistics.get("num_batches", 1)) if statistics else 0

    def _move(self, stats: MinMaxRange, share: float, num_batches: int) -> None:
        """Move the averages towards ``stats`` by a share in (0, 1]; 1 where there are none yet."""
        wide = [end.to(torch.promote_types(end.dtype, torch.float32)) for end in stats.bounds()]
        if self._num_batches:
            wide = [
                torch.lerp(old.to(new.dtype), new, share)
                for old, new in zip(self._total.bounds(), wide, strict=True)
            ]
        self._total = MinMaxRange(*wide)
        self._num_batches += num_batches


class MovingAverageMinMaxEncodingAnalyzer(EncodingAnalyzer[MinMaxRange]):
    """Covers the moving average of the batches' minimum and maximum; a rare outlier hardly moves it.

    Args:
        shape: Shape of the range: () for one range per tensor, otherwise broadcastable against the tensors.
        momentum: Share of the old average that a batch leaves, in [0, 1); 0 is the last batch alone.
        block_size: Block sizes by axis; None without blocks.

    Raises:
        OptionError: If momentum is out of range.
    """

    def __init__(
        self, shape: Sequence[int] | int, momentum: float = 0.9, block_size: BlockSize = None
    ) -> None:
        super().__init__(MovingAverageObserver(shape, momentum, block_size))

    def _find_range(
        self, stats: MinMaxRange, num_steps: int, is_symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return cover(*stats.bounds(), num_steps, is_symmetric)
