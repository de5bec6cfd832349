"""_Calibrator: the base of all calibrators."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch


class _Calibrator(ABC):
    """What collects statistics of tensors and computes amax from them.

    Args:
        num_bits: Bits of the quantizer, or (exponent bits, mantissa bits).
        axis: Axes that keep an amax of their own; None for one amax.
        unsigned: Whether the quantizer has no negative codes.
    """

    def __init__(
        self, num_bits: int | tuple[int, int], axis: int | Sequence[int] | None, unsigned: bool
    ) -> None:
        self._num_bits = num_bits
        self._axis = axis
        self._unsigned = unsigned

    @abstractmethod
    def collect(self, x: torch.Tensor) -> None:
        """Take a tensor into account."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what was collected."""

    @abstractmethod
    def compute_amax(self, *args: Any, **kwargs: Any) -> torch.Tensor | None:
        """Return amax; None if nothing was collected."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_bits={self._num_bits} axis={self._axis} unsigned={self._unsigned})"
