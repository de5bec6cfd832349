"""Frozen quantizers: fixed encodings, stored as buffers, for converted models."""

from collections.abc import Callable

import torch
from typing_extensions import Self

from fxquant.quantization import functional
from fxquant.quantization.encodings import AffineEncoding
from fxquant.quantization.quantizer import QuantizerBase


class _Frozen(QuantizerBase):
    """Holds an encoding: buffers ``scale`` and ``offset``, float32 at least, and the grid.

    ``dtype`` follows the float type the model is cast to.
    """

    scale: torch.Tensor
    offset: torch.Tensor

    def __init__(self, encoding: AffineEncoding, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("scale", encoding.scale.detach().clone())
        self.register_buffer("offset", encoding.offset.detach().clone())
        self.dtype = dtype
        self.qmin, self.qmax, self.symmetric = encoding.qmin, encoding.qmax, encoding.symmetry

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        return super()._apply(fn, recurse)

    def is_initialized(self) -> bool:
        """Whether there is an encoding: always."""
        return True

    def get_encodings(self) -> AffineEncoding:
        """Return the fixed encoding."""
        return AffineEncoding(self.scale, self.offset, self.qmin, self.qmax, self.symmetric)

    def extra_repr(self) -> str:
        shape = tuple(self.scale.shape)
        return f"shape={shape}, qmin={self.qmin}, qmax={self.qmax}, symmetric={self.symmetric}"


class FrozenQuantizeDequantize(_Frozen):
    """Puts a tensor on a fixed grid and returns the grid's real values; gradients pass straight through."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the nearest values on the grid, in the float type of input."""
        return functional.quantize_dequantize(input, self.scale, self.offset, self.qmin, self.qmax)


class FrozenDequantize(_Frozen):
    """Turns stored codes into real values: the frozen quantizer of a weight or bias."""

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the real values of an integer tensor, in ``dtype``, the float type of the model."""
        return functional.dequantize(codes, self.scale, self.offset).to(self.dtype)
