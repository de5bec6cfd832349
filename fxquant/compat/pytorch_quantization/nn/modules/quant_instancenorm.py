"""Instance normalizations with a quantized input; nothing else of them is quantized."""

from torch import nn

from fxquant.compat.pytorch_quantization.nn.modules._quantized_layer import QuantizedInputLayer

__all__ = [
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "QuantInstanceNorm1d",
    "QuantInstanceNorm2d",
    "QuantInstanceNorm3d",
]


class QuantInstanceNorm1d(QuantizedInputLayer, nn.InstanceNorm1d):
    """``torch.nn.InstanceNorm1d`` on a quantized input."""


class QuantInstanceNorm2d(QuantizedInputLayer, nn.InstanceNorm2d):
    """``torch.nn.InstanceNorm2d`` on a quantized input."""


class QuantInstanceNorm3d(QuantizedInputLayer, nn.InstanceNorm3d):
    """``torch.nn.InstanceNorm3d`` on a quantized input."""


InstanceNorm1d = QuantInstanceNorm1d
InstanceNorm2d = QuantInstanceNorm2d
InstanceNorm3d = QuantInstanceNorm3d
