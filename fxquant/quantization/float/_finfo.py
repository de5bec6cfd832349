"""AIMET's private names of float types, which code written for it imports from here."""

from fxquant.quantization.float.float_type import FLOAT8_E4M3FN, FloatType

_float8_e4m3fn = FLOAT8_E4M3FN


def _finfo(exponent_bits: int, mantissa_bits: int, finite: bool, unsigned_zero: bool) -> FloatType:
    return FloatType(
        exponent_bits=exponent_bits, mantissa_bits=mantissa_bits, finite=finite, unsigned_zero=unsigned_zero
    )
