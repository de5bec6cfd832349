"""FloatEncoding: the scale of a float type."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from typing_extensions import Self

from fxquant.errors import OptionError
from fxquant.quantization.base import EncodingBase
from fxquant.quantization.float import functional
from fxquant.quantization.float.encoding_dict import float_from_dict, float_to_dict
from fxquant.quantization.float.float_type import FloatType
from fxquant.quantization.float.type_fields import TypeFieldsMixin

if TYPE_CHECKING:
    from fxquant.quantization.base import QuantizerBase


class FloatEncoding(TypeFieldsMixin, EncodingBase):
    """Scale of a float type: ``x_dq = x_q * scale``, where x_q is a number of the type.

    Args:
        mantissa_bits: Bits of the mantissa without its leading one.
        exponent_bits: Bits of the exponent.
        finite: Whether the type has no infinities.
        unsigned_zero: Whether the type has no negative zero.
        scale: Real size of 1 in the type, positive. Shape [] for one per tensor; otherwise a shape that
            broadcasts against the tensor, such as [out, 1, 1, 1], or one entry per block.
        block_size: Block sizes by axis, -1 for what is left; None without blocks.
        producer: The quantizer that found the encoding.
        has_unit_scale: Whether scale is 1 everywhere; None to look when it matters.

    Raises:
        OptionError: If there is no scale, or no type of these bits.
    """

    def __init__(
        self,
        mantissa_bits: int,
        exponent_bits: int,
        finite: bool,
        unsigned_zero: bool,
        scale: torch.Tensor,
        block_size: Sequence[int] | None = None,
        *,
        producer: "QuantizerBase | None" = None,
        has_unit_scale: bool | None = None,
    ) -> None:
        if not isinstance(scale, torch.Tensor):
            raise OptionError(f"scale of a FloatEncoding must be a tensor; got {scale}.")
        self.float_type = FloatType(
            exponent_bits=exponent_bits,
            mantissa_bits=mantissa_bits,
            finite=finite,
            unsigned_zero=unsigned_zero,
        )
        self.scale = scale
        self.block_size = tuple(map(int, block_size or ())) or None
        self.producer = producer
        self._has_unit_scale = has_unit_scale

    @property
    def mapping(self) -> str:
        """Kind of encoding: always "float"."""
        return "float"

    @property
    def maxval(self) -> torch.Tensor:
        """Largest real value of the grid. Same shape as scale."""
        return self.scale * self.float_type.max

    @property
    def dtype(self) -> torch.dtype:
        """The torch type of the numbers; float32, which holds them too, where torch has none of its own."""
        return self.float_type.torch_dtype or torch.float32

    @property
    def has_unit_scale(self) -> bool:
        """Whether scale is 1 everywhere, so that there is nothing to divide by."""
        if self._has_unit_scale is None:
            self._has_unit_scale = bool((self.scale == 1).all())
        return self._has_unit_scale

    def quantize(self, input: torch.Tensor) -> torch.Tensor:
        """Return the numbers of the type that stand for a real tensor, in its float type; differentiable."""
        return functional.quantize(input, self.scale, self.float_type, self.block_size)

    def dequantize(self, input: torch.Tensor) -> torch.Tensor:
        """Return the real values of numbers of the type: in their float type, or that of scale for 8 bits."""
        return functional.dequantize(input, self.scale, self.block_size)

    def quantize_dequantize(self, input: torch.Tensor) -> torch.Tensor:
        return functional.quantize_dequantize(
            input, self.scale, self.float_type, self.block_size, has_unit_scale=self.has_unit_scale
        )

    def map_tensors(self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        changed = super().map_tensors(function)
        changed._has_unit_scale = None
        return changed

    def scaled(self, factor: float) -> Self:
        """Return the encoding of ``factor`` times what this one encodes; a float grid is symmetric."""
        return self.map_tensors(lambda scale: scale * abs(factor))

    def to_qnn_encoding_dict(
        self, encoding_version: str | None = None, shape: Sequence[int] | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        return float_to_dict(self, encoding_version, shape)

    @classmethod
    def from_qnn_encoding_dict(
        cls, entry: dict[str, Any] | list[dict[str, Any]], shape: Sequence[int] | None = None
    ) -> "FloatEncoding":
        """Return the encoding of an entry of an encodings file of any version.

        Args:
            entry: What ``to_qnn_encoding_dict`` returns.
            shape: Shape of scale; needed where the entry has a flat list of several scales.

        Raises:
            QuantizerError: If the entry cannot be read, or shape is missing.
        """
        return cls(**float_from_dict(entry, shape))
