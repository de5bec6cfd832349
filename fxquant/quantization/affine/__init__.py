"""Affine quantizers: modules that hold a grid and put tensors on it."""

from fxquant.quantization.affine.frozen import FrozenDequantize, FrozenQuantizeDequantize
from fxquant.quantization.affine.quantizer import QuantizeDequantize
from fxquant.quantization.functional import dequantize, quantize, quantize_dequantize

__all__ = [
    "FrozenDequantize",
    "FrozenQuantizeDequantize",
    "QuantizeDequantize",
    "dequantize",
    "quantize",
    "quantize_dequantize",
]
