"""The numerics: quantizers, encodings and analyzers that know tensors only. Usually imported as Q."""

from fxquant.quantization import affine
from fxquant.quantization.encoding_analyzer import EncodingAnalyzer, MinMaxEncodingAnalyzer
from fxquant.quantization.encodings import AffineEncoding
from fxquant.quantization.quantizer import QuantizerBase
from fxquant.quantization.spec import QuantizationSpec

__all__ = [
    "AffineEncoding",
    "EncodingAnalyzer",
    "MinMaxEncodingAnalyzer",
    "QuantizationSpec",
    "QuantizerBase",
    "affine",
]
