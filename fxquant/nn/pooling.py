"""Quantized pooling modules: no parameters, so nothing but quantizers is added."""

from torch import nn

from fxquant.nn.mixin import QuantizationMixin


@QuantizationMixin.implements(nn.MaxPool1d)
class QuantizedMaxPool1d(QuantizationMixin, nn.MaxPool1d):
    """nn.MaxPool1d with quantizers."""


@QuantizationMixin.implements(nn.MaxPool2d)
class QuantizedMaxPool2d(QuantizationMixin, nn.MaxPool2d):
    """nn.MaxPool2d with quantizers."""


@QuantizationMixin.implements(nn.MaxPool3d)
class QuantizedMaxPool3d(QuantizationMixin, nn.MaxPool3d):
    """nn.MaxPool3d with quantizers."""


@QuantizationMixin.implements(nn.AvgPool1d)
class QuantizedAvgPool1d(QuantizationMixin, nn.AvgPool1d):
    """nn.AvgPool1d with quantizers."""


@QuantizationMixin.implements(nn.AvgPool2d)
class QuantizedAvgPool2d(QuantizationMixin, nn.AvgPool2d):
    """nn.AvgPool2d with quantizers."""


@QuantizationMixin.implements(nn.AvgPool3d)
class QuantizedAvgPool3d(QuantizationMixin, nn.AvgPool3d):
    """nn.AvgPool3d with quantizers."""


@QuantizationMixin.implements(nn.AdaptiveAvgPool1d)
class QuantizedAdaptiveAvgPool1d(QuantizationMixin, nn.AdaptiveAvgPool1d):
    """nn.AdaptiveAvgPool1d with quantizers."""


@QuantizationMixin.implements(nn.AdaptiveAvgPool2d)
class QuantizedAdaptiveAvgPool2d(QuantizationMixin, nn.AdaptiveAvgPool2d):
    """nn.AdaptiveAvgPool2d with quantizers."""


@QuantizationMixin.implements(nn.AdaptiveAvgPool3d)
class QuantizedAdaptiveAvgPool3d(QuantizationMixin, nn.AdaptiveAvgPool3d):
    """nn.AdaptiveAvgPool3d with quantizers."""
