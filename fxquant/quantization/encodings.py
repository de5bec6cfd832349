"""Encodings: the found numbers that map a tensor onto a grid, as frozen values."""

from dataclasses import dataclass

import torch

from fxquant.quantization import functional


@dataclass(frozen=True, eq=False)
class AffineEncoding:
    """Scale and offset of an affine grid: ``x_dq = (x_q + offset) * scale``.

    Attributes:
        scale: Real size of one step, positive. Shape [] for one range per tensor; otherwise a shape that
            broadcasts against the tensor, such as [out, 1, 1, 1].
        offset: Minus the zero point, whole numbers in a float tensor. Same shape as scale.
        qmin: Lowest code.
        qmax: Highest code.
        symmetry: Whether the grid was chosen symmetric about real zero.
    """

    scale: torch.Tensor
    offset: torch.Tensor
    qmin: int
    qmax: int
    symmetry: bool = False

    @property
    def mapping(self) -> str:
        """Kind of encoding: always "affine"."""
        return "affine"

    @property
    def num_steps(self) -> int:
        """Number of steps between the lowest and the highest code."""
        return self.qmax - self.qmin

    @property
    def bitwidth(self) -> int:
        """Bits needed to hold every code of the grid."""
        return self.num_steps.bit_length()

    @property
    def signed(self) -> bool:
        """Whether codes can be negative."""
        return self.qmin < 0

    @property
    def min(self) -> torch.Tensor:
        """Real value of the lowest code. Same shape as scale."""
        return (self.offset + self.qmin) * self.scale

    @property
    def max(self) -> torch.Tensor:
        """Real value of the highest code. Same shape as scale."""
        return (self.offset + self.qmax) * self.scale

    @property
    def zero_point(self) -> torch.Tensor:
        """Code of real zero, as ONNX counts it: minus offset, int32. Same shape as scale."""
        return (-self.offset).to(torch.int32)

    @property
    def dtype(self) -> torch.dtype:
        """Smallest torch integer type that holds every code and is stored and computed everywhere."""
        if self.qmin >= 0 and self.qmax <= 255:
            return torch.uint8
        if self.qmin >= -128 and self.qmax <= 127:
            return torch.int8
        if self.qmin >= -32768 and self.qmax <= 32767:
            return torch.int16
        return torch.int32

    @property
    def channel_axis(self) -> int | None:
        """Axis along which scale varies; None for one range per tensor.

        A per-channel grid over a single channel is per tensor: the numbers are the same.
        """
        axes = [axis for axis, size in enumerate(self.scale.shape) if size > 1]
        return axes[0] if len(axes) == 1 else None

    def quantize(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the codes of a real tensor, in its float type."""
        return functional.quantize(tensor, self.scale, self.offset, self.qmin, self.qmax)

    def to_integers(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the codes of a real tensor as an integer tensor of ``dtype``."""
        return functional.quantize_to_integers(
            tensor, self.scale, self.offset, self.qmin, self.qmax, self.dtype
        )

    def dequantize(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the real values of codes, in the float type of scale."""
        return functional.dequantize(codes, self.scale, self.offset)

    def quantize_dequantize(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the nearest values on the grid."""
        return functional.quantize_dequantize(tensor, self.scale, self.offset, self.qmin, self.qmax)

    def to(self, target: torch.device | torch.dtype) -> "AffineEncoding":
        """Return the encoding with its tensors on another device or in another float type."""
        return AffineEncoding(
            self.scale.to(target), self.offset.to(target), self.qmin, self.qmax, self.symmetry
        )
