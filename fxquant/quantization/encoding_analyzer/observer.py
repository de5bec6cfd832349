"""Observers hold what an encoding analyzer has seen; analyzers turn it into a range."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Protocol

import torch
from typing_extensions import Self, TypeVar

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization.blocks import BlockSize

StatisticsDict = dict[str, torch.Tensor | int | float]
"""Statistics as plain tensors and numbers, to send to another process or to save; {} where there are none."""


class Statistics(Protocol):
    """What was seen of one or more tensors. A value: never changed, only replaced."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was seen."""


Stats = TypeVar("Stats", bound=Statistics, default=Any)


class Observer(ABC, Generic[Stats]):
    """Takes statistics of tensors and holds their total.

    Args:
        shape: Shape of the range: () for one range per tensor, otherwise broadcastable against the tensors
            or, with block_size, as many as there are blocks.
        block_size: Block sizes by axis, see ``fxquant.quantization.blocks``; None without blocks.
    """

    def __init__(self, shape: Sequence[int] | int, block_size: BlockSize = None) -> None:
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.block_size = tuple(block_size) if block_size else None

    @property
    def num_ranges(self) -> int:
        """Number of elements of ``shape``."""
        return math.prod(self.shape)

    @property
    def stats(self) -> Stats:
        """The total so far."""
        return self.get_stats()

    @abstractmethod
    def get_stats(self) -> Stats:
        """Return the total so far."""

    @abstractmethod
    def collect_stats(self, tensor: torch.Tensor) -> Stats:
        """Return the statistics of one float tensor alone; the total stays as it is.

        Raises:
            QuantizerError: If ``shape`` and ``block_size`` do not fit the tensor.
        """

    @abstractmethod
    def merge_stats(self, stats: Stats, tensor: torch.Tensor | None = None) -> None:
        """Add statistics to the total.

        Args:
            stats: What ``collect_stats`` returned.
            tensor: The tensor it was collected from. Only an observer that counts a tensor anew, in the range
                that the total has by then, needs it.
        """

    @abstractmethod
    def reset_stats(self) -> None:
        """Forget everything."""

    @abstractmethod
    def observed_range(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the smallest and the largest value seen, each of ``shape``; None before the first tensor."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Add what another observer of the same kind, shape and settings has seen, for example elsewhere."""

    @abstractmethod
    def statistics_dict(self) -> StatisticsDict:
        """Return the total as plain tensors and numbers."""

    @abstractmethod
    def load_statistics(self, statistics: StatisticsDict) -> None:
        """Replace the total by what ``statistics_dict`` returned.

        Raises:
            QuantizerError: If it belongs to another kind of observer, or to another shape.
        """

    def update(self, tensor: torch.Tensor) -> Stats:
        """Collect a tensor's statistics, add them to the total and return them; ignore an empty tensor."""
        stats = self.collect_stats(tensor)
        if not stats.is_empty:
            self.merge_stats(stats, tensor)
        return stats


def check_num_bins(num_bins: int, fewest: int = 1) -> None:
    """Check the number of bins of a histogram.

    Raises:
        OptionError: If there are fewer than ``fewest``.
    """
    if num_bins < fewest:
        raise OptionError(
            f"A histogram of {num_bins} bins is too small.", remedy=f"Ask for at least {fewest}."
        )


def tensors_of(statistics: StatisticsDict, shapes: dict[str, tuple[int, ...]]) -> list[torch.Tensor]:
    """Return the named tensors of a statistics dict, in the order of ``shapes``.

    Raises:
        QuantizerError: If a name is missing or a tensor has another shape.
    """
    found = []
    for name, shape in shapes.items():
        tensor = statistics.get(name)
        if not isinstance(tensor, torch.Tensor) or tuple(tensor.shape) != shape:
            is_there = f"shape {tuple(tensor.shape)}" if isinstance(tensor, torch.Tensor) else "nothing"
            raise QuantizerError(
                f"These statistics have {is_there} where '{name}' of shape {shape} is needed.",
                remedy="Load them into an analyzer of the kind, shape and bins that they came from.",
            )
        found.append(tensor)
    return found
