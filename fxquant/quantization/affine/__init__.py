"""Affine quantization: integer grids with a scale and an offset."""

from fxquant.quantization.affine.encoding import AffineEncoding
from fxquant.quantization.affine.frozen import FrozenDequantize, FrozenQuantizeDequantize
from fxquant.quantization.affine.functions import dequantize, quantize, quantize_dequantize
from fxquant.quantization.affine.grouped_block import GroupedBlockQuantizeDequantize
from fxquant.quantization.affine.grouped_encoding import GroupedBlockEncoding
from fxquant.quantization.affine.of_spec import weight_quantizer
from fxquant.quantization.affine.parametrization import MinMaxQuantizer, ScaleOffsetQuantizer
from fxquant.quantization.affine.quantizer import Dequantize, Quantize, QuantizeDequantize
from fxquant.quantization.affine.quantizer_base import AffineQuantizerBase

__all__ = [
    "AffineEncoding",
    "AffineQuantizerBase",
    "Dequantize",
    "FrozenDequantize",
    "FrozenQuantizeDequantize",
    "GroupedBlockEncoding",
    "GroupedBlockQuantizeDequantize",
    "MinMaxQuantizer",
    "Quantize",
    "QuantizeDequantize",
    "ScaleOffsetQuantizer",
    "dequantize",
    "quantize",
    "quantize_dequantize",
    "weight_quantizer",
]
