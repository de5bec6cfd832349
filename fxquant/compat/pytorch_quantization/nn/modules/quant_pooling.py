"""Poolings with a quantized input."""

from torch import nn

from fxquant.compat.pytorch_quantization.nn.modules._quantized_layer import QuantizedInputLayer

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "QuantAdaptiveAvgPool1d",
    "QuantAdaptiveAvgPool2d",
    "QuantAdaptiveAvgPool3d",
    "QuantAvgPool1d",
    "QuantAvgPool2d",
    "QuantAvgPool3d",
    "QuantMaxPool1d",
    "QuantMaxPool2d",
    "QuantMaxPool3d",
]


class QuantMaxPool1d(QuantizedInputLayer, nn.MaxPool1d):
    """``torch.nn.MaxPool1d`` on a quantized input."""


class QuantMaxPool2d(QuantizedInputLayer, nn.MaxPool2d):
    """``torch.nn.MaxPool2d`` on a quantized input."""


class QuantMaxPool3d(QuantizedInputLayer, nn.MaxPool3d):
    """``torch.nn.MaxPool3d`` on a quantized input."""


class QuantAvgPool1d(QuantizedInputLayer, nn.AvgPool1d):
    """``torch.nn.AvgPool1d`` on a quantized input."""


class QuantAvgPool2d(QuantizedInputLayer, nn.AvgPool2d):
    """``torch.nn.AvgPool2d`` on a quantized input."""


class QuantAvgPool3d(QuantizedInputLayer, nn.AvgPool3d):
    """``torch.nn.AvgPool3d`` on a quantized input."""


class QuantAdaptiveAvgPool1d(QuantizedInputLayer, nn.AdaptiveAvgPool1d):
    """``torch.nn.AdaptiveAvgPool1d`` on a quantized input."""


class QuantAdaptiveAvgPool2d(QuantizedInputLayer, nn.AdaptiveAvgPool2d):
    """``torch.nn.AdaptiveAvgPool2d`` on a quantized input."""


class QuantAdaptiveAvgPool3d(QuantizedInputLayer, nn.AdaptiveAvgPool3d):
    """``torch.nn.AdaptiveAvgPool3d`` on a quantized input."""


MaxPool1d = QuantMaxPool1d
MaxPool2d = QuantMaxPool2d
MaxPool3d = QuantMaxPool3d
AvgPool1d = QuantAvgPool1d
AvgPool2d = QuantAvgPool2d
AvgPool3d = QuantAvgPool3d
AdaptiveAvgPool1d = QuantAdaptiveAvgPool1d
AdaptiveAvgPool2d = QuantAdaptiveAvgPool2d
AdaptiveAvgPool3d = QuantAdaptiveAvgPool3d
