"""Frozen float quantizers: a fixed scale, stored as a buffer, for converted models."""

from collections.abc import Callable

import torch
from typing_extensions import Self

from fxquant.errors import QuantizerError
from fxquant.quantization.base import QuantizerBase
from fxquant.quantization.base.quantizer import plain_tensor
from fxquant.quantization.float import functional
from fxquant.quantization.float.encoding import FloatEncoding


class _FrozenFloat(QuantizerBase):
    """Holds an encoding: the buffer ``scale``, float32 at least, and the type.

    ``dtype`` follows the float type the model is cast to.
    """

    scale: torch.Tensor
    returns_encoding = False

    def __init__(self, encoding: FloatEncoding, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("scale", encoding.scale.detach().clone())
        self.float_type, self.block_size, self.dtype = encoding.float_type, encoding.block_size, dtype

    @classmethod
    def from_encodings(cls, encodings: FloatEncoding) -> Self:
        return cls(encodings)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        return super()._apply(fn, recurse)

    def get_encodings(self) -> FloatEncoding:
        """Return the fixed encoding."""
        kind = self.float_type
        return FloatEncoding(
            kind.mantissa_bits,
            kind.exponent_bits,
            kind.finite,
            kind.unsigned_zero,
            self.scale,
            self.block_size,
            producer=self,
        )

    def set_range_from_stats(self) -> None:
        raise QuantizerError("A frozen quantizer has a fixed encoding.")

    def extra_repr(self) -> str:
        block_size = f", block_size={self.block_size}" if self.block_size else ""
        return f"shape={tuple(self.scale.shape)}{block_size}, dtype={self.float_type}"

    def _encoding_of_nothing(self) -> FloatEncoding:
        return self.get_encodings()

    def _dynamic_encoding(self, statistics: object) -> FloatEncoding:
        return self.get_encodings()


class FrozenFloatQuantizeDequantize(_FrozenFloat):
    """Puts a tensor on a fixed float grid and returns its real values; gradients pass straight through."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Quantize a tensor; integers are returned as they are.

        Raises:
            QuantizerError: If the scale does not fit the tensor.
        """
        return functional.quantize_dequantize(
            plain_tensor(input), self.scale, self.float_type, self.block_size
        )

    def _quantized(self, input: torch.Tensor, encoding: FloatEncoding) -> torch.Tensor:
        return encoding.quantize_dequantize(input)


class FrozenFloatDequantize(_FrozenFloat):
    """Turns stored numbers of a float type into real values, in ``dtype``: a weight's frozen quantizer."""

    reads_codes = True

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the real values of codes."""
        return self._quantized(plain_tensor(input), self.get_encodings())

    def _quantized(self, input: torch.Tensor, encoding: FloatEncoding) -> torch.Tensor:
        return functional.dequantize(input, self.scale, self.block_size).to(self.dtype)
