"""Quantized modules with a weight: convolutions, transposed convolutions, linear, embedding."""

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.nn.mixin import QuantizationMixin

_Parameters = dict[str, torch.Tensor | None]


class _Convolution(QuantizationMixin):
    """The family of nn.Conv1d, nn.Conv2d and nn.Conv3d."""

    def compute(self, parameters: _Parameters, *inputs: Any, **kwargs: Any) -> Any:
        return cast(nn.Conv2d, self)._conv_forward(inputs[0], parameters["weight"], parameters["bias"])  # type: ignore[arg-type]  # has a weight


class _TransposedConvolution(QuantizationMixin):
    """The family of nn.ConvTranspose1d, nn.ConvTranspose2d and nn.ConvTranspose3d."""

    rank: int

    def compute(self, parameters: _Parameters, *inputs: Any, **kwargs: Any) -> Any:
        output_size = inputs[1] if len(inputs) > 1 else kwargs.get("output_size")
        module = cast(nn.ConvTranspose2d, self)
        stride, dilation = list(module.stride), list(module.dilation)
        padding = list(cast(tuple[int, ...], module.padding))
        output_padding = module._output_padding(
            inputs[0], output_size, stride, padding, list(module.kernel_size), self.rank, dilation
        )
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.rank - 1]
        return function(
            inputs[0],
            parameters["weight"],  # type: ignore[arg-type]  # a transposed convolution always has a weight
            parameters["bias"],
            stride,
            padding,
            output_padding,
            module.groups,
            dilation,
        )


@QuantizationMixin.implements(nn.Conv1d)
class QuantizedConv1d(_Convolution, nn.Conv1d):
    """nn.Conv1d with quantizers."""


@QuantizationMixin.implements(nn.Conv2d)
class QuantizedConv2d(_Convolution, nn.Conv2d):
    """nn.Conv2d with quantizers."""


@QuantizationMixin.implements(nn.Conv3d)
class QuantizedConv3d(_Convolution, nn.Conv3d):
    """nn.Conv3d with quantizers."""


@QuantizationMixin.implements(nn.ConvTranspose1d)
class QuantizedConvTranspose1d(_TransposedConvolution, nn.ConvTranspose1d):
    """nn.ConvTranspose1d with quantizers."""

    rank = 1


@QuantizationMixin.implements(nn.ConvTranspose2d)
class QuantizedConvTranspose2d(_TransposedConvolution, nn.ConvTranspose2d):
    """nn.ConvTranspose2d with quantizers."""

    rank = 2


@QuantizationMixin.implements(nn.ConvTranspose3d)
class QuantizedConvTranspose3d(_TransposedConvolution, nn.ConvTranspose3d):
    """nn.ConvTranspose3d with quantizers."""

    rank = 3


@QuantizationMixin.implements(nn.Linear)
class QuantizedLinear(QuantizationMixin, nn.Linear):
    """nn.Linear with quantizers."""

    def compute(self, parameters: _Parameters, *inputs: Any, **kwargs: Any) -> Any:
        return F.linear(inputs[0], parameters["weight"], parameters["bias"])  # type: ignore[arg-type]  # never None


@QuantizationMixin.implements(nn.Embedding)
class QuantizedEmbedding(QuantizationMixin, nn.Embedding):
    """nn.Embedding with a quantizer for its table."""

    def compute(self, parameters: _Parameters, *inputs: Any, **kwargs: Any) -> Any:
        return F.embedding(
            inputs[0],
            parameters["weight"],  # type: ignore[arg-type]  # never None
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )
