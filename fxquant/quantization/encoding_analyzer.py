"""Encoding analyzers turn observed tensors into the range that a quantizer covers."""

from abc import ABC, abstractmethod

import torch

from fxquant.errors import NotCalibratedError, QuantizerError
from fxquant.quantization.functional import smallest_scale


class EncodingAnalyzer(ABC):
    """Collects statistics of the tensors a quantizer sees and derives a range from them.

    Args:
        shape: Shape of the range: () for one range per tensor, otherwise broadcastable against the tensors.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = tuple(shape)

    @abstractmethod
    def reset_stats(self) -> None:
        """Forget everything observed."""

    @abstractmethod
    def update_stats(self, tensor: torch.Tensor) -> None:
        """Take in one float tensor; an empty one is ignored. Never synchronises with the device."""

    @property
    @abstractmethod
    def observed_range(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Smallest and largest value seen, each of ``shape``; None before the first tensor."""

    @abstractmethod
    def compute_encodings(self, num_steps: int, is_symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the range (min, max) to cover, each of ``shape``.

        Args:
            num_steps: Number of steps of the grid, 255 for 8 bits.
            is_symmetric: Whether zero is to lie in the middle of the grid.

        Raises:
            NotCalibratedError: If nothing was observed.
        """


class MinMaxEncodingAnalyzer(EncodingAnalyzer):
    """Covers everything that was seen: running minimum and maximum.

    The result does not depend on the order of the tensors nor on how they are cut into batches.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape)
        self._range: tuple[torch.Tensor, torch.Tensor] | None = None

    def reset_stats(self) -> None:
        self._range = None

    def update_stats(self, tensor: torch.Tensor) -> None:
        if tensor.numel() == 0:
            return
        minimum, maximum = reduce_to_shape(tensor.detach(), self.shape)
        if self._range is not None:
            minimum = torch.minimum(minimum, self._range[0])
            maximum = torch.maximum(maximum, self._range[1])
        self._range = minimum, maximum

    @property
    def observed_range(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        return self._range

    def compute_encodings(self, num_steps: int, is_symmetric: bool) -> tuple[torch.Tensor, torch.Tensor]:
        if self._range is None:
            raise NotCalibratedError(
                "No tensor was observed.", remedy="Run data through the quantizer first."
            )
        minimum, maximum = (bound.float() for bound in self._range)
        return cover(minimum, maximum, num_steps, is_symmetric)


def cover(
    minimum: torch.Tensor, maximum: torch.Tensor, num_steps: int, is_symmetric: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the range of a grid that covers [minimum, maximum] and zero.

    With n steps, a symmetric grid has floor(n/2) steps above zero and ceil(n/2) below, of size
    ``max(max / floor(n/2), -min / ceil(n/2))``; with 2 bits ``max(max / 2, -min / 2)``, which, as in AIMET,
    clips the upper half rather than halve the resolution. An asymmetric one covers
    [min(min, 0), max(max, 0)].
    Degenerate ranges are widened to ``smallest_scale(n)`` a step; infinite ends become a quarter of the
    largest float, so that the scale is finite.
    """
    largest = torch.finfo(minimum.dtype).max / 4
    minimum = minimum.clamp(-largest, 0.0)
    maximum = maximum.clamp(0.0, largest)
    step = smallest_scale(num_steps)
    if not is_symmetric:
        is_degenerate = (maximum - minimum) < step * num_steps
        return minimum, torch.where(is_degenerate, minimum + step * num_steps, maximum)
    above, below = num_steps // 2, num_steps - num_steps // 2
    size_above = maximum / (above + 1 if num_steps == 3 else above)
    size = torch.maximum(size_above, -minimum / below).clamp_min(step)
    return -below * size, above * size


def reduce_to_shape(tensor: torch.Tensor, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return minimum and maximum of a tensor over every axis along which ``shape`` is 1 or absent.

    Raises:
        QuantizerError: If ``shape`` does not broadcast against the tensor.
    """
    if all(size == 1 for size in shape):
        minimum, maximum = torch.aminmax(tensor)
        return minimum.reshape(shape), maximum.reshape(shape)
    padded = (1,) * (tensor.dim() - len(shape)) + shape
    kept = [axis for axis, size in enumerate(padded) if size > 1]
    if len(padded) != tensor.dim() or any(padded[axis] != tensor.shape[axis] for axis in kept):
        raise QuantizerError(f"Ranges of shape {shape} do not fit a tensor of shape {tuple(tensor.shape)}.")
    reduced = [axis for axis in range(tensor.dim()) if axis not in kept]
    rows = tensor.permute(*kept, *reduced).reshape(*(tensor.shape[axis] for axis in kept), -1)
    minimum, maximum = torch.aminmax(rows, dim=-1)
    return minimum.reshape(shape), maximum.reshape(shape)
