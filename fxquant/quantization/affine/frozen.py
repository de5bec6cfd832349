"""Frozen quantizers: fixed encodings, stored as buffers, for converted models."""

from collections.abc import Callable
from typing import Any

import torch
from typing_extensions import Self

from fxquant.errors import QuantizerError
from fxquant.quantization import functional
from fxquant.quantization.affine.encoding import AffineEncoding
from fxquant.quantization.affine.grouped_encoding import GroupedBlockEncoding
from fxquant.quantization.base import QuantizerBase
from fxquant.quantization.base.quantizer import plain_tensor


class _Frozen(QuantizerBase):
    """Holds an encoding: buffers ``scale`` and ``offset``, float32 at least, and the grid.

    ``dtype`` follows the float type the model is cast to.
    """

    scale: torch.Tensor
    offset: torch.Tensor
    per_channel_scale: torch.Tensor
    returns_encoding = False

    def __init__(self, encoding: AffineEncoding, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("scale", encoding.scale.detach().clone())
        self.register_buffer("offset", encoding.offset.detach().clone())
        self._groups: tuple[Any, int] | None = None  # of blocks, and the bitwidth of decompressed codes
        if isinstance(encoding, GroupedBlockEncoding):
            self._groups = encoding.block_grouping, encoding.decompressed_bw
            self.register_buffer("per_channel_scale", encoding.per_channel_scale.detach().clone())
        self.dtype = dtype
        self.qmin, self.qmax, self.symmetric = encoding.qmin, encoding.qmax, encoding.symmetry
        self.block_size, self.zero_point_shift = encoding.block_size, encoding.zero_point_shift

    @classmethod
    def from_encodings(cls, encodings: AffineEncoding) -> Self:
        return cls(encodings)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        return super()._apply(fn, recurse)

    def get_encodings(self) -> AffineEncoding:
        """Return the fixed encoding."""
        if self._groups is None:
            return AffineEncoding.on_grid_of(self, self.scale, self.offset)
        grouping, decompressed_bw = self._groups
        return GroupedBlockEncoding(
            self.scale,
            self.offset,
            self.qmin,
            self.qmax,
            self.symmetric,
            self.block_size,
            block_grouping=grouping,
            decompressed_bw=decompressed_bw,
            per_channel_scale=self.per_channel_scale,
            producer=self,
        )

    def set_range_from_stats(self) -> None:
        raise QuantizerError("A frozen quantizer has a fixed encoding.")

    def extra_repr(self) -> str:
        block_size = f", block_size={self.block_size}" if self.block_size else ""
        grid = f"qmin={self.qmin}, qmax={self.qmax}, symmetric={self.symmetric}"
        return f"shape={tuple(self.scale.shape)}{block_size}, {grid}"

    def _encoding_of_nothing(self) -> AffineEncoding:
        return self.get_encodings()

    def _dynamic_encoding(self, statistics: object) -> AffineEncoding:
        return self.get_encodings()


class FrozenQuantizeDequantize(_Frozen):
    """Puts a tensor on a fixed grid and returns the grid's real values; gradients pass straight through."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Quantize a tensor; integers are returned as they are.

        Raises:
            QuantizerError: If the scale does not fit the tensor.
        """
        return functional.quantize_dequantize(
            plain_tensor(input),
            self.scale,
            self.offset,
            self.qmin,
            self.qmax,
            self.block_size,
            self.zero_point_shift,
        )

    def overwrite(self, tensor: torch.Tensor) -> bool:
        return functional.overwrite(
            tensor, self.scale, self.offset, self.qmin, self.qmax, self.block_size, self.zero_point_shift
        )

    def keeps(self, tensor: torch.Tensor) -> bool:
        return functional.is_idempotent(tensor.dtype, self.scale, self.qmin, self.qmax)

    def _quantized(self, input: torch.Tensor, encoding: AffineEncoding) -> torch.Tensor:
        return encoding.quantize_dequantize(input)


class FrozenDequantize(_Frozen):
    """Turns stored codes into real values, in ``dtype``: the frozen quantizer of a weight or bias."""

    takes_integers = True
    reads_codes = True

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the real values of codes, given as integers or as whole numbers in a float tensor."""
        if input.is_floating_point() or self.zero_point_shift:
            return super().forward(input)
        return functional.dequantize(input, self.scale, self.offset, self.block_size).to(self.dtype)

    def _quantized(self, input: torch.Tensor, encoding: AffineEncoding) -> torch.Tensor:
        return encoding.dequantize(input).to(self.dtype)
