"""FloatQuantizeDequantize: puts a tensor on the scaled grid of a float type."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from typing_extensions import Self

from fxquant.errors import QuantizerError
from fxquant.quantization.base import QuantizerBase
from fxquant.quantization.base.range_checks import check_analyzer_shape, warn_of_extremes
from fxquant.quantization.encoding_analyzer import EncodingAnalyzer, MinMaxEncodingAnalyzer
from fxquant.quantization.float.encoding import FloatEncoding
from fxquant.quantization.float.float_type import FLOAT16, FloatType
from fxquant.quantization.float.rounding import round_to_type
from fxquant.quantization.float.type_fields import TypeFieldsMixin, type_of_arguments

_FIELDS = ("exponent_bits", "mantissa_bits", "finite", "unsigned_zero")


class FloatQuantizeDequantize(TypeFieldsMixin, QuantizerBase):
    """Puts a tensor on the scaled grid of a float type and returns the grid's real values.

    The scale is ``|maxval| / (largest number of the type)``. Without calibration it is 1, and nothing is
    divided or multiplied. Written (exponent_bits, mantissa_bits, ...) or (dtype=...).

    Args:
        exponent_bits: Bits of the exponent.
        mantissa_bits: Bits of the mantissa without its leading one.
        finite: Whether the type has no infinities; False by default. True for torch's own types and
            float4_e2m1 only, as ``unsigned_zero``.
        unsigned_zero: Whether the type has no negative zero; False by default.
        dtype: The torch type to simulate, instead of the four above.
        shape: Shape of the scale: () per tensor; otherwise broadcastable against the tensor, or the number of
            blocks by axis. By default that of the analyzer.
        block_size: Block sizes by axis, -1 for what is left; None without blocks.
        encoding_analyzer: Finds the largest magnitude during calibration. By default min-max for types below
            16 bits; none for others, whose scale stays as it is.

    Attributes:
        maxval: Largest real value of the grid, a buffer of shape ``shape``: found, not trained.

    Raises:
        OptionError: If neither the bits nor dtype are given, or both; or there is no such type.
        QuantizerError: If the type is not known, or the analyzer's shape does not fit.

    Example:
        >>> import torch, fxquant.quantization as Q
        >>> quantizer = Q.float.FloatQuantizeDequantize(dtype=torch.float8_e4m3fn)
        >>> quantizer
        FloatQuantizeDequantize(dtype=torch.float8_e4m3fn)
        >>> quantizer(torch.tensor([1.03, 500.0])).quantized_repr()
        tensor([  1., 448.], dtype=torch.float8_e4m3fn)
    """

    maxval: torch.Tensor

    def __init__(
        self,
        exponent_bits: int | None = None,
        mantissa_bits: int | None = None,
        finite: bool | None = None,
        unsigned_zero: bool | None = None,
        dtype: torch.dtype | None = None,
        shape: Sequence[int] | int | None = None,
        block_size: Sequence[int] | None = None,
        encoding_analyzer: EncodingAnalyzer | None = None,
    ) -> None:
        super().__init__()
        self._float_type = type_of_arguments((exponent_bits, mantissa_bits, finite, unsigned_zero), dtype)
        if shape is None:
            shape = encoding_analyzer.shape if encoding_analyzer else ()
        self.shape = (shape,) if isinstance(shape, int) else tuple(shape)
        self.block_size = _sizes(block_size)
        if encoding_analyzer is None:
            encoding_analyzer = self._default_analyzer()
        else:
            check_analyzer_shape(encoding_analyzer, self.shape)
        self.encoding_analyzer = encoding_analyzer
        self.register_buffer("maxval", torch.full(self.shape, self._float_type.max))
        self._mark_pristine(["maxval"])
        self._overwrite_allowed = {"maxval": True}

    @classmethod
    def from_encodings(cls, encodings: FloatEncoding) -> Self:
        if not isinstance(encodings, FloatEncoding):
            raise TypeError(f"Expected {FloatEncoding}; got {type(encodings)}.")
        quantizer = cls(
            encodings.exponent_bits,
            encodings.mantissa_bits,
            encodings.finite,
            encodings.unsigned_zero,
            shape=tuple(encodings.scale.shape),
            block_size=encodings.block_size,
        )
        quantizer.to(encodings.scale.device)
        if not encodings.has_unit_scale:
            quantizer.maxval.copy_(encodings.maxval.detach())
        return quantizer

    def is_initialized(self) -> bool:
        """Whether there is a scale: always."""
        return True

    def get_scale(self) -> torch.Tensor:
        """Return the scale, float32 of shape ``shape``."""
        if self._has_unit_scale():
            return torch.ones_like(self.maxval)
        smallest = torch.finfo(self.maxval.dtype).tiny
        return (self.maxval.abs() / self._float_type.max).clamp_min_(smallest)

    def get_encodings(self) -> FloatEncoding:
        return self._encoding(self.get_scale(), self._has_unit_scale())

    def get_legacy_encodings(self) -> list[dict[str, Any]]:
        """Return bitwidth and "float", as AIMET writes them; the scale and the kind of type are not told."""
        return [{"bitwidth": self.bitwidth, "dtype": "float"}]

    def set_legacy_encodings(self, encodings: list[dict[str, Any]]) -> None:
        """Become float16 with scale 1, which is what an entry of version 0.6.1 stands for.

        Raises:
            QuantizerError: If it is not one of 16 bits.
        """
        if encodings[0]["bitwidth"] != FLOAT16.bitwidth:
            raise QuantizerError(f"{type(self).__name__} can only import 16-bit legacy encodings.")
        self._float_type = FLOAT16
        self._reset_range()

    def set_range_from_stats(self) -> None:
        assert self.encoding_analyzer is not None
        ends = self.encoding_analyzer.compute_encodings(self._num_steps(), False)
        warn_of_extremes(self.encoding_analyzer.observed_range)
        if self.is_overwrite_allowed():
            self.maxval.copy_(self._magnitude(*ends))

    @property
    def float_type(self) -> FloatType:
        """The type that is simulated. Setting it keeps a calibrated maxval, or else the scale of 1."""
        return self._float_type

    @float_type.setter
    def float_type(self, float_type: FloatType) -> None:
        had_unit_scale = self._has_unit_scale()
        self._float_type = float_type
        if had_unit_scale and float_type.is_known:  # one that is not is refused at the next call
            self._reset_range()

    def extra_repr(self) -> str:
        dtype = self._float_type.torch_dtype
        fields = ", ".join(f"{name}={getattr(self._float_type, name)}" for name in _FIELDS)
        shape = f", shape={self.shape}" if self.shape else ""
        block_size = f", block_size={self.block_size}" if self.block_size else ""
        return f"{fields if dtype is None else f'dtype={dtype}'}{shape}{block_size}"

    def get_extra_state(self) -> dict[str, Any]:
        """Return what the state dict needs beside maxval: the type and the blocks."""
        state: Any = super().get_extra_state()
        if not isinstance(state, dict):
            return state  # type: ignore[no-any-return]  # an export asks
        fields = {name: torch.tensor(getattr(self._float_type, name)) for name in _FIELDS}
        return state | fields | {"block_size": torch.tensor(self.block_size or ())}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take type and blocks from a state dict, whose maxval is loaded already."""
        current = {name: getattr(self._float_type, name) for name in _FIELDS}
        self._float_type = FloatType(
            **{name: type(now)(state.get(name, now)) for name, now in current.items()}
        )
        before = self.shape, self.block_size
        if "block_size" in state:
            self.block_size = _sizes(torch.as_tensor(state["block_size"]).tolist())
        self.shape = tuple(self.maxval.shape)
        if type(self.encoding_analyzer) in (type(None), MinMaxEncodingAnalyzer):
            self.encoding_analyzer = self._default_analyzer()
        elif self.encoding_analyzer is not None and before != (self.shape, self.block_size):
            self.encoding_analyzer.resize(self.shape, self.block_size)
        super().set_extra_state(state)
        if bool((self.maxval == self._float_type.max).all()):
            self._mark_pristine(["maxval"])

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load a state dict; type, shape and blocks may be others than before."""
        maxval = state_dict.get("maxval")
        if maxval is not None and maxval.shape != self.maxval.shape:
            self.maxval = self.maxval.new_empty(maxval.shape)
        return super().load_state_dict(state_dict, strict, assign)

    def _quantized(self, input: torch.Tensor, encoding: FloatEncoding) -> torch.Tensor:
        return self._carrying(encoding.quantize_dequantize(input), encoding)

    def _dynamic_encoding(self, statistics: Any) -> FloatEncoding:
        assert self.encoding_analyzer is not None
        ends = self.encoding_analyzer.compute_encodings_from_stats(statistics, self._num_steps(), False)
        return self._encoding(self._magnitude(*ends) / self._float_type.max, False)

    def _encoding_of_nothing(self) -> FloatEncoding:
        encoding = self._encoding(torch.ones((), device=self.maxval.device), True)
        encoding.block_size = None
        return encoding

    def _encoding(self, scale: torch.Tensor, has_unit_scale: bool) -> FloatEncoding:
        fields = {name: getattr(self._float_type, name) for name in _FIELDS}
        return FloatEncoding(
            **fields, scale=scale, block_size=self.block_size, producer=self, has_unit_scale=has_unit_scale
        )

    def _magnitude(self, minimum: torch.Tensor, maximum: torch.Tensor) -> torch.Tensor:
        """Return the largest magnitude of a range, as maxval would hold it."""
        return torch.maximum(minimum.abs(), maximum.abs()).to(self.maxval).expand(self.shape)

    def _default_analyzer(self) -> EncodingAnalyzer | None:
        return MinMaxEncodingAnalyzer(self.shape, self.block_size) if self.bitwidth < 16 else None

    def _num_steps(self) -> int:
        return int(2**self.bitwidth - 1)

    def _has_unit_scale(self) -> bool:
        """Whether maxval still is the largest number of the type: known without looking at the device.

        Compiled code never counts on it: it would not notice a later calibration, and gains nothing.
        """
        return not torch.compiler.is_compiling() and "maxval" in self._unset()

    def _reset_range(self) -> None:
        self.maxval.fill_(self._float_type.max)
        self._mark_pristine(["maxval"])


class QuantizeDequantize(FloatQuantizeDequantize):
    """FloatQuantizeDequantize by the name that it has in AIMET's ``float`` package."""


_fake_cast_to_ieee_float = round_to_type  # AIMET's private name, in users' code


def _sizes(block_size: Sequence[int] | None) -> tuple[int, ...] | None:
    return tuple(map(int, block_size or ())) or None
