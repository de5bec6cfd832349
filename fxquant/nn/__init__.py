"""Quantized modules: torch modules that hold quantizers for inputs, outputs and parameters."""

from fxquant.nn import custom
from fxquant.nn.mixin import QuantizationMixin, computes_like, quantized_class_of
from fxquant.nn.pooling import (
    QuantizedAdaptiveAvgPool1d,
    QuantizedAdaptiveAvgPool2d,
    QuantizedAdaptiveAvgPool3d,
    QuantizedAvgPool1d,
    QuantizedAvgPool2d,
    QuantizedAvgPool3d,
    QuantizedMaxPool1d,
    QuantizedMaxPool2d,
    QuantizedMaxPool3d,
)
from fxquant.nn.weighted import (
    QuantizedConv1d,
    QuantizedConv2d,
    QuantizedConv3d,
    QuantizedConvTranspose1d,
    QuantizedConvTranspose2d,
    QuantizedConvTranspose3d,
    QuantizedEmbedding,
    QuantizedLinear,
)

__all__ = [
    "QuantizationMixin",
    "QuantizedAdaptiveAvgPool1d",
    "QuantizedAdaptiveAvgPool2d",
    "QuantizedAdaptiveAvgPool3d",
    "QuantizedAvgPool1d",
    "QuantizedAvgPool2d",
    "QuantizedAvgPool3d",
    "QuantizedConv1d",
    "QuantizedConv2d",
    "QuantizedConv3d",
    "QuantizedConvTranspose1d",
    "QuantizedConvTranspose2d",
    "QuantizedConvTranspose3d",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedMaxPool1d",
    "QuantizedMaxPool2d",
    "QuantizedMaxPool3d",
    "computes_like",
    "custom",
    "quantized_class_of",
]
