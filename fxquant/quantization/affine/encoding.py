"""AffineEncoding: scale and offset of an integer grid."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization import functional
from fxquant.quantization.affine.encoding_dict import affine_from_dict, affine_to_dict
from fxquant.quantization.affine.grid import GridMixin, bind, integer_grid
from fxquant.quantization.base.encoding import EncodingBase

_TAIL = ("symmetry", "block_size", "zero_point_shift")
_FORMS = (("qmin", "qmax", *_TAIL), ("bitwidth", "signed", *_TAIL))


class AffineEncoding(GridMixin, EncodingBase):
    """Scale and offset of an affine grid: ``x_dq = (x_q + offset + zero_point_shift) * scale``.

    Written (scale, offset, qmin, qmax, ...) or (scale, offset, bitwidth, signed=False, ...).

    Args:
        scale: Real size of one step, positive. Shape [] for one range per tensor; otherwise a shape that
            broadcasts against the tensor, such as [out, 1, 1, 1], or one entry per block.
        offset: Minus the zero point, whole numbers in a float tensor. Same shape as scale.
        *args: The grid and what follows, in either form.
        producer: The quantizer that found the encoding.
        **kwargs: The same by name: qmin and qmax, or bitwidth and signed; then

            - symmetry: whether the grid was chosen symmetric about real zero; False by default;
            - block_size: block sizes by axis, -1 for what is left; None without blocks;
            - zero_point_shift: 0 or 0.5 steps between real zero and the nearest value of the grid.

    Raises:
        TypeError: If the arguments fit neither form.
        OptionError: If qmin is not below qmax, or the shift is neither 0 nor 0.5.
    """

    def __init__(
        self, scale: torch.Tensor, offset: torch.Tensor, *args: Any, producer: Any = None, **kwargs: Any
    ) -> None:
        values = bind(type(self).__qualname__, _FORMS, args, kwargs)
        self.scale, self.offset = scale, offset
        if "bitwidth" in values:
            self.qmin, self.qmax = integer_grid(values["bitwidth"], bool(values.get("signed", False)))
        else:
            self.qmin, self.qmax = values["qmin"], values["qmax"]
        self.symmetry = bool(values.get("symmetry", False))
        self.block_size = as_block_size(values.get("block_size"))
        self.zero_point_shift = as_shift(values.get("zero_point_shift"))
        self.producer = producer

    @classmethod
    def on_grid_of(cls, quantizer: Any, scale: torch.Tensor, offset: torch.Tensor) -> "AffineEncoding":
        """Return an encoding on the grid of a quantizer, which has checked it already."""
        encoding = AffineEncoding.__new__(AffineEncoding)
        encoding.scale, encoding.offset = scale, offset
        encoding.qmin, encoding.qmax = quantizer.qmin, quantizer.qmax
        encoding.symmetry = quantizer.symmetric
        encoding.block_size = quantizer.block_size
        encoding.zero_point_shift = quantizer.zero_point_shift
        encoding.producer = quantizer
        return encoding

    @property
    def mapping(self) -> str:
        """Kind of encoding: always "affine"."""
        return "affine"

    @property
    def num_steps(self) -> int:
        """Number of steps between the lowest and the highest code."""
        return self.qmax - self.qmin

    @property
    def storage_bits(self) -> int:
        """Bits needed to hold every code: the bitwidth, also of a narrow grid, which leaves one out."""
        return math.ceil(math.log2(self.num_steps + 1))

    @property
    def min(self) -> torch.Tensor:
        """Real value of the lowest code, without the zero-point shift. Same shape as scale."""
        return (self.offset + self.qmin) * self.scale

    @property
    def max(self) -> torch.Tensor:
        """Real value of the highest code, without the zero-point shift. Same shape as scale."""
        return (self.offset + self.qmax) * self.scale

    @property
    def zero_point(self) -> torch.Tensor:
        """Code of real zero, as ONNX counts it: minus offset, in int32 or, past it, int64."""
        return (-self.offset).to(torch.int64 if self.qmax >= 2**31 else torch.int32)

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

    def quantize(self, input: torch.Tensor) -> torch.Tensor:
        """Return the codes of a real tensor, in its float type; differentiable.

        Raises:
            QuantizerError: If the type cannot hold the codes, the scale does not fit, or there is a shift.
        """
        self._refuse_shift()
        return functional.quantize(input, self.scale, self.offset, self.qmin, self.qmax, self.block_size)

    def to_integers(self, input: torch.Tensor) -> torch.Tensor:
        """Return the codes of a real tensor as an integer tensor of ``dtype``, or int64 past int32."""
        self._refuse_shift()
        dtype = torch.int64 if self.qmax >= 2**31 else self.dtype
        return functional.quantize_to_integers(
            input, self.scale, self.offset, self.qmin, self.qmax, dtype, self.block_size
        )

    def to_codes(self, input: torch.Tensor) -> torch.Tensor:
        return self.to_integers(input)

    def dequantize(self, input: torch.Tensor) -> torch.Tensor:
        """Return the real values of codes: in their float type, or that of scale for integer codes."""
        self._refuse_shift()
        if not input.is_floating_point():
            return functional.dequantize(input, self.scale, self.offset, self.block_size)
        dtype = functional.compute_dtype(input.dtype, self.num_steps)  # as quantize_dequantize does
        real = functional.dequantize(input.to(dtype), self.scale, self.offset, self.block_size)
        return real.to(input.dtype)

    def quantize_dequantize(self, input: torch.Tensor) -> torch.Tensor:
        return functional.quantize_dequantize(
            input, self.scale, self.offset, self.qmin, self.qmax, self.block_size, self.zero_point_shift
        )

    def overwrite(self, tensor: torch.Tensor) -> bool:
        """Do ``quantize_dequantize`` in the memory of its tensor; see ``functional.overwrite``."""
        return functional.overwrite(
            tensor, self.scale, self.offset, self.qmin, self.qmax, self.block_size, self.zero_point_shift
        )

    def scaled(self, factor: float) -> "AffineEncoding | None":
        """Return the encoding of ``factor`` times what this one encodes; None if there is none.

        A negative factor mirrors the grid; a symmetric one with one more code below zero has no image.
        """
        if factor < 0 and self.symmetry and (self.qmin + self.qmax) % 2:
            return None
        scaled = self.map_tensors(torch.clone)
        scaled.scale = self.scale * abs(factor)
        if factor < 0:
            scaled.offset = -self.qmin - self.qmax - self.offset - 2 * self.zero_point_shift
        return scaled

    def to_qnn_encoding_dict(
        self, encoding_version: str | None = None, shape: Sequence[int] | None = None
    ) -> dict[str, Any] | list[dict[str, Any]]:
        return affine_to_dict(self, encoding_version, shape)

    @classmethod
    def from_qnn_encoding_dict(
        cls, entry: dict[str, Any] | list[dict[str, Any]], shape: Sequence[int] | None = None
    ) -> "AffineEncoding":
        """Return the encoding of an entry of an encodings file of any version; LPBQ has a class of its own.

        Args:
            entry: What ``to_qnn_encoding_dict`` returns.
            shape: Shape of scale; needed where the entry has a flat list of several scales.

        Raises:
            QuantizerError: If the entry cannot be read, or shape is missing.
        """
        return cls(**affine_from_dict(entry, shape))

    def _shift_grid(self, shift: int) -> None:
        super()._shift_grid(shift)
        self.offset = self.offset - shift

    def _refuse_shift(self) -> None:
        if self.zero_point_shift:
            raise QuantizerError(
                "A grid with a zero-point shift has no codes.", remedy="Use quantize_dequantize."
            )


def as_block_size(block_size: Sequence[int] | None) -> tuple[int, ...] | list[int] | None:
    """Return block sizes as numbers, None for no size; a list stays one: users compare it with theirs."""
    if block_size is None or len(block_size) == 0:
        return None
    sizes = [int(size) for size in block_size]
    return sizes if isinstance(block_size, list) else tuple(sizes)


def as_shift(zero_point_shift: float | None) -> float:
    """Return a zero-point shift, 0 by default.

    Raises:
        OptionError: If it is neither 0 nor 0.5.
    """
    shift = float(zero_point_shift or 0.0)
    if shift not in (0.0, 0.5):
        raise OptionError(f"zero_point_shift should be 0.0 or 0.5. Got {shift}.")
    return shift
