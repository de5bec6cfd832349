"""Convolutions with a quantized input and a quantized weight; the bias is not quantized."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fxquant.compat.pytorch_quantization import tensor_quant
from fxquant.compat.pytorch_quantization.nn.modules._quantized_layer import QuantizedWeightLayer

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "QuantConv1d",
    "QuantConv2d",
    "QuantConv3d",
    "QuantConvTranspose1d",
    "QuantConvTranspose2d",
    "QuantConvTranspose3d",
]


class _QuantConvNd(QuantizedWeightLayer, _ConvNd):
    """Convolution; padding of a mode other than zeros pads what is already quantized."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # torch's name
        """Return the convolution of the quantized input with the quantized weight."""
        return self._conv_forward(
            self._input_quantizer(input), self._weight_quantizer(self.weight), self.bias
        )


class QuantConv1d(_QuantConvNd, nn.Conv1d):
    """``torch.nn.Conv1d`` on a quantized input and weight [out, in / groups, k], one amax per out."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONV1D_WEIGHT_PER_CHANNEL


class QuantConv2d(_QuantConvNd, nn.Conv2d):
    """``torch.nn.Conv2d`` on a quantized input and weight [out, in / groups, kh, kw], one amax per out."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONV2D_WEIGHT_PER_CHANNEL


class QuantConv3d(_QuantConvNd, nn.Conv3d):
    """``torch.nn.Conv3d`` on a quantized input and weight [out, in / groups, kd, kh, kw], amax per out."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONV3D_WEIGHT_PER_CHANNEL


class _QuantConvTransposeNd(QuantizedWeightLayer, _ConvTransposeNd):
    """Transposed convolution; torch's constructor takes no padding mode but zeros."""

    _convolve: ClassVar[Callable[..., torch.Tensor]]
    _num_spatial_dims: ClassVar[int]

    def forward(
        self,
        input: torch.Tensor,  # torch's name
        output_size: list[int] | None = None,
    ) -> torch.Tensor:
        """Return the transposed convolution of the quantized input with the quantized weight.

        Args:
            input: [batch, in, ...], or without batch.
            output_size: Spatial size of the output, where the stride allows several; None for the least.
        """
        output_padding = self._output_padding(
            input,
            output_size,
            self.stride,  # type: ignore[arg-type]  # torch's own forward passes the same tuples
            self.padding,  # type: ignore[arg-type]
            self.kernel_size,  # type: ignore[arg-type]
            self._num_spatial_dims,
            self.dilation,  # type: ignore[arg-type]
        )
        convolve: Any = type(self)._convolve
        output: torch.Tensor = convolve(
            self._input_quantizer(input),
            self._weight_quantizer(self.weight),
            self.bias,
            self.stride,
            self.padding,
            output_padding,
            self.groups,
            self.dilation,
        )
        return output


class QuantConvTranspose1d(_QuantConvTransposeNd, nn.ConvTranspose1d):
    """``torch.nn.ConvTranspose1d`` on a quantized input and weight [in, out / groups, k], amax per out."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONVTRANSPOSE1D_WEIGHT_PER_CHANNEL
    _convolve = staticmethod(F.conv_transpose1d)
    _num_spatial_dims = 1


class QuantConvTranspose2d(_QuantConvTransposeNd, nn.ConvTranspose2d):
    """``torch.nn.ConvTranspose2d`` on a quantized input and weight [in, out / groups, kh, kw]."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONVTRANSPOSE2D_WEIGHT_PER_CHANNEL
    _convolve = staticmethod(F.conv_transpose2d)
    _num_spatial_dims = 2


class QuantConvTranspose3d(_QuantConvTransposeNd, nn.ConvTranspose3d):
    """``torch.nn.ConvTranspose3d`` on a quantized input and weight [in, out / groups, kd, kh, kw]."""

    default_quant_desc_weight = tensor_quant.QUANT_DESC_8BIT_CONVTRANSPOSE3D_WEIGHT_PER_CHANNEL
    _convolve = staticmethod(F.conv_transpose3d)
    _num_spatial_dims = 3


Conv1d = QuantConv1d
Conv2d = QuantConv2d
Conv3d = QuantConv3d
ConvTranspose1d = QuantConvTranspose1d
ConvTranspose2d = QuantConvTranspose2d
ConvTranspose3d = QuantConvTranspose3d
