"""TypeFieldsMixin: the bits of a float type as attributes, and as arguments, of what has one."""

from dataclasses import replace

import torch

from fxquant.errors import OptionError
from fxquant.quantization.float.float_type import BFLOAT16, FLOAT16, FloatType


class TypeFieldsMixin:
    """The fields of ``float_type``. Setting one replaces the type."""

    float_type: FloatType

    @property
    def bitwidth(self) -> int:
        """Bits of one number of the type."""
        return self.float_type.bitwidth

    @property
    def exponent_bits(self) -> int:
        """Bits of the exponent."""
        return self.float_type.exponent_bits

    @exponent_bits.setter
    def exponent_bits(self, exponent_bits: int) -> None:
        self.float_type = replace(self.float_type, exponent_bits=exponent_bits)

    @property
    def mantissa_bits(self) -> int:
        """Bits of the mantissa without its leading one."""
        return self.float_type.mantissa_bits

    @mantissa_bits.setter
    def mantissa_bits(self, mantissa_bits: int) -> None:
        self.float_type = replace(self.float_type, mantissa_bits=mantissa_bits)

    @property
    def finite(self) -> bool:
        """Whether the type has no infinities."""
        return self.float_type.finite

    @property
    def unsigned_zero(self) -> bool:
        """Whether the type has no negative zero."""
        return self.float_type.unsigned_zero

    def is_float16(self) -> bool:
        """Whether the type is IEEE float16."""
        return self.float_type == FLOAT16

    def is_bfloat16(self) -> bool:
        """Whether the type is bfloat16."""
        return self.float_type == BFLOAT16

    @property
    def _finfo(self) -> FloatType:  # AIMET's private name, in users' code
        return self.float_type

    @_finfo.setter
    def _finfo(self, float_type: FloatType) -> None:
        self.float_type = float_type


def type_of_arguments(
    fields: tuple[int | None, int | None, bool | None, bool | None], dtype: torch.dtype | None
) -> FloatType:
    """Return the type that a quantizer's arguments ask for.

    Args:
        fields: exponent_bits, mantissa_bits, finite and unsigned_zero; None for what is not given.
        dtype: The torch type, instead of all of them.

    Raises:
        OptionError: If neither is given, or both; or there is no such type within the range of float32.
    """
    exponent_bits, mantissa_bits, finite, unsigned_zero = fields
    if dtype is not None:
        if any(field is not None for field in fields):
            raise OptionError(
                'Argument "dtype" is mutually exclusive with "exponent/mantissa_bits/finite/unsigned_zero".'
            )
        return FloatType.of_torch(dtype)
    if exponent_bits is None or mantissa_bits is None:
        raise OptionError('Neither "dtype" nor "exponent/mantissa_bits" was specified.')
    if exponent_bits > 8:
        raise OptionError(
            f"A range in float32 does not reach that of {exponent_bits} exponent bits.",
            remedy="Choose 2 to 8.",
        )
    return FloatType(
        exponent_bits=exponent_bits,
        mantissa_bits=mantissa_bits,
        finite=bool(finite),
        unsigned_zero=bool(unsigned_zero),
    )
