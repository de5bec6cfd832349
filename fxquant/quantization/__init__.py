"""The numerics: quantizers, encodings and analyzers that know tensors only. Usually imported as Q."""

from fxquant.quantization import affine, base, encoding_analyzer, float
from fxquant.quantization.affine import AffineEncoding, GroupedBlockEncoding
from fxquant.quantization.base import EncodingBase, QuantizerBase
from fxquant.quantization.encoding_analyzer import (
    EncodingAnalyzer,
    EntropyEncodingAnalyzer,
    MinMaxEncodingAnalyzer,
    MovingAverageMinMaxEncodingAnalyzer,
    MseEncodingAnalyzer,
    PercentileEncodingAnalyzer,
    SqnrEncodingAnalyzer,
    TfEnhancedEncodingAnalyzer,
)
from fxquant.quantization.float import FloatEncoding
from fxquant.quantization.spec import QuantizationSpec
from fxquant.quantization.tensor import (
    DequantizedTensor,
    EncodingError,
    QuantizedTensor,
    QuantizedTensorBase,
)

__all__ = [
    "AffineEncoding",
    "DequantizedTensor",
    "EncodingAnalyzer",
    "EncodingBase",
    "EncodingError",
    "EntropyEncodingAnalyzer",
    "FloatEncoding",
    "GroupedBlockEncoding",
    "MinMaxEncodingAnalyzer",
    "MovingAverageMinMaxEncodingAnalyzer",
    "MseEncodingAnalyzer",
    "PercentileEncodingAnalyzer",
    "QuantizationSpec",
    "QuantizedTensor",
    "QuantizedTensorBase",
    "QuantizerBase",
    "SqnrEncodingAnalyzer",
    "TfEnhancedEncodingAnalyzer",
    "affine",
    "base",
    "encoding_analyzer",
    "float",
]
