"""FloatType: how many bits of a float are exponent and mantissa, and which codes are no numbers.

A type of E exponent bits and M mantissa bits whose smallest normal number is n has the numbers
``+-n * k / 2^M`` for k in [0, 2^M), and ``+-n * 2^e * (1 + k / 2^M)`` from there to its largest one. IEEE 754
keeps the highest exponent for infinities and NaN (section 3.4)::

    bias = 2^(E-1) - 1      n = 2^(1 - bias)      largest = (2 - 2^-M) * 2^bias

The types of 8 and 4 bits use some or all of those codes for numbers (OCP OFP8 and Microscaling v1.0; the
"fnuz" types: Noune et al. 2022, "8-bit Numerical Formats for Deep Neural Networks").
"""

from dataclasses import dataclass

import torch

from fxquant.errors import OptionError, QuantizerError, unknown_option

_MAX_EXPONENT_BITS = 11  # of float64, the widest type that values are computed in
_MAX_MANTISSA_BITS = 52


@dataclass(frozen=True, kw_only=True)
class FloatType:
    """A float type of some bits, with a sign.

    Raises:
        OptionError: If float64 does not hold it.
    """

    exponent_bits: int
    """Bits of the exponent, 2 to 11."""
    mantissa_bits: int
    """Bits of the mantissa without its leading one, 1 to 52: without any there is no code for NaN."""
    finite: bool = False
    """Whether there are no infinities: their codes are numbers."""
    unsigned_zero: bool = False
    """Whether there is no negative zero: its code is NaN."""

    def __post_init__(self) -> None:
        if not (
            2 <= self.exponent_bits <= _MAX_EXPONENT_BITS and 1 <= self.mantissa_bits <= _MAX_MANTISSA_BITS
        ):
            raise OptionError(
                f"There is no float type of {self.exponent_bits} exponent bits and {self.mantissa_bits} "
                "mantissa bits.",
                remedy=f"Choose 2 to {_MAX_EXPONENT_BITS} and 1 to {_MAX_MANTISSA_BITS}.",
            )

    @classmethod
    def of_torch(cls, dtype: torch.dtype) -> "FloatType":
        """Return the type of a torch dtype.

        Raises:
            OptionError: If it is not among those that a quantizer simulates.
        """
        if dtype not in _OF_TORCH:
            raise OptionError(f"Expected dtype to be one of {list(_OF_TORCH)}; got {dtype}.")
        return _OF_TORCH[dtype]

    @classmethod
    def of_onnx(cls, name: str) -> "FloatType":
        """Return the type of an ONNX type, named as in encodings files: "float8e4m3fn".

        Raises:
            OptionError: If there is no such type.
        """
        found = {onnx_dtype: float_type for float_type, onnx_dtype in _ONNX.items()}
        if name not in found:
            raise unknown_option("float type", name, found)
        return found[name]

    @property
    def bitwidth(self) -> int:
        """Bits of one number, with its sign."""
        return self.exponent_bits + self.mantissa_bits + 1

    @property
    def torch_dtype(self) -> torch.dtype | None:
        """The torch dtype that holds exactly these numbers; None if there is none."""
        return _TORCH.get(self)

    @property
    def onnx_dtype(self) -> str | None:
        """Name of the ONNX type, in lower case as in encodings files; None if there is none."""
        return _ONNX.get(self)

    @property
    def is_known(self) -> bool:
        """Whether it is known what its highest codes stand for: in types of IEEE 754, torch and ONNX."""
        return self in _ONNX or not (self.finite or self.unsigned_zero)

    @property
    def max(self) -> float:
        """Largest number of the type.

        Raises:
            QuantizerError: If the type is not known.
        """
        return self.limits()[1]

    @property
    def smallest_normal(self) -> float:
        """Smallest number above zero with a full mantissa.

        Raises:
            QuantizerError: If the type is not known.
        """
        return self.limits()[0]

    def limits(self) -> tuple[float, float]:
        """Return the smallest normal and the largest number of the type.

        Raises:
            QuantizerError: If the type is not known.
        """
        dtype = self.torch_dtype
        if dtype is not None:
            info = torch.finfo(dtype)
            return info.smallest_normal, info.max
        if self == FLOAT4_E2M1:
            return 1.0, 6.0
        if not self.is_known:
            raise QuantizerError(
                "finite/unsigned_zero floating point has limited support. Expected PyTorch built-in data "
                f"types, such as {list(_OF_TORCH)}; got '{self}'."
            )
        bias = 2 ** (self.exponent_bits - 1) - 1
        return 2.0 ** (1 - bias), (2 - 2.0**-self.mantissa_bits) * 2.0**bias

    def __str__(self) -> str:
        if self.torch_dtype is not None:
            return str(self.torch_dtype).removeprefix("torch.")
        suffix = ("fn" if self.finite else "") + ("uz" if self.unsigned_zero else "")
        return f"float{self.bitwidth}_e{self.exponent_bits}m{self.mantissa_bits}{suffix}"


FLOAT16 = FloatType(exponent_bits=5, mantissa_bits=10)
BFLOAT16 = FloatType(exponent_bits=8, mantissa_bits=7)
FLOAT8_E4M3FN = FloatType(exponent_bits=4, mantissa_bits=3, finite=True)
FLOAT8_E4M3FNUZ = FloatType(exponent_bits=4, mantissa_bits=3, finite=True, unsigned_zero=True)
FLOAT8_E5M2 = FloatType(exponent_bits=5, mantissa_bits=2)
FLOAT8_E5M2FNUZ = FloatType(exponent_bits=5, mantissa_bits=2, finite=True, unsigned_zero=True)
FLOAT4_E2M1 = FloatType(exponent_bits=2, mantissa_bits=1, finite=True)

_TORCH = {
    FLOAT16: torch.float16,
    BFLOAT16: torch.bfloat16,
    FLOAT8_E4M3FN: torch.float8_e4m3fn,
    FLOAT8_E4M3FNUZ: torch.float8_e4m3fnuz,
    FLOAT8_E5M2: torch.float8_e5m2,
    FLOAT8_E5M2FNUZ: torch.float8_e5m2fnuz,
}
_ONNX = {
    FLOAT16: "float16",
    BFLOAT16: "bfloat16",
    FLOAT8_E4M3FN: "float8e4m3fn",
    FLOAT8_E4M3FNUZ: "float8e4m3fnuz",
    FLOAT8_E5M2: "float8e5m2",
    FLOAT8_E5M2FNUZ: "float8e5m2fnuz",
    FLOAT4_E2M1: "float4e2m1",
}
_OF_TORCH = {dtype: float_type for float_type, dtype in _TORCH.items()}
