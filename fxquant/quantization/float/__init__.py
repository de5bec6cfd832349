"""Float quantization: values on the grid of a narrow float type, with a scale."""

from fxquant.quantization.float.encoding import FloatEncoding
from fxquant.quantization.float.float_type import FloatType
from fxquant.quantization.float.frozen import FrozenFloatDequantize, FrozenFloatQuantizeDequantize
from fxquant.quantization.float.quantizer import FloatQuantizeDequantize, QuantizeDequantize

__all__ = [
    "FloatEncoding",
    "FloatQuantizeDequantize",
    "FloatType",
    "FrozenFloatDequantize",
    "FrozenFloatQuantizeDequantize",
    "QuantizeDequantize",
]
