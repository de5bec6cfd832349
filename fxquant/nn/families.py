"""The forwards of modules with parameters: each computes with the parameters it is given."""

from typing import Any

from torch import nn
from torch.nn import functional as F

from fxquant.nn.standard import StandardForward, quantize_dequantize


class Convolution(StandardForward):
    """The family of nn.Conv1d, nn.Conv2d and nn.Conv3d."""

    def compute(self, parameters: dict[str, Any], *inputs: Any, **kwargs: Any) -> Any:
        module: Any = self
        return module._conv_forward(inputs[0], parameters["weight"], parameters["bias"])


class TransposedConvolution(StandardForward):
    """The family of nn.ConvTranspose1d, nn.ConvTranspose2d and nn.ConvTranspose3d."""

    def compute(self, parameters: dict[str, Any], *inputs: Any, **kwargs: Any) -> Any:
        output_size = inputs[1] if len(inputs) > 1 else kwargs.get("output_size")
        module: Any = self
        rank = len(module.kernel_size)
        stride, padding, dilation = list(module.stride), list(module.padding), list(module.dilation)
        output_padding = module._output_padding(
            inputs[0], output_size, stride, padding, list(module.kernel_size), rank, dilation
        )
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
        return function(
            inputs[0],
            parameters["weight"],
            parameters["bias"],
            stride,
            padding,
            output_padding,
            module.groups,
            dilation,
        )


class Linear(StandardForward):
    """The family of nn.Linear."""

    def compute(self, parameters: dict[str, Any], *inputs: Any, **kwargs: Any) -> Any:
        return F.linear(inputs[0], parameters["weight"], parameters["bias"])


class Embedding(StandardForward):
    """The family of nn.Embedding."""

    def compute(self, parameters: dict[str, Any], *inputs: Any, **kwargs: Any) -> Any:
        module: Any = self
        return F.embedding(
            inputs[0],
            parameters["weight"],
            module.padding_idx,
            module.max_norm,
            module.norm_type,
            module.scale_grad_by_freq,
            module.sparse,
        )


class Normalization(StandardForward):
    """The family of nn.LayerNorm, nn.GroupNorm and nn.RMSNorm."""

    def compute(self, parameters: dict[str, Any], *inputs: Any, **kwargs: Any) -> Any:
        module: Any = self
        if isinstance(self, nn.GroupNorm):
            return F.group_norm(inputs[0], module.num_groups, **parameters, eps=module.eps)
        function = F.layer_norm if isinstance(self, nn.LayerNorm) else F.rms_norm
        return function(inputs[0], module.normalized_shape, **parameters, eps=module.eps)


class Parts(StandardForward):
    """The family of ops that take a tensor apart: one quantizer serves all parts."""

    def _quantized_outputs(self, output: Any) -> Any:
        quantizer = self.output_quantizers[0]
        return tuple(quantize_dequantize(part, quantizer) for part in output)


def family_of(module_class: type[nn.Module]) -> type[StandardForward]:
    """Return the family of a torch class; the standard forward where it has none of its own."""
    return next((_FAMILIES[base] for base in module_class.__mro__ if base in _FAMILIES), StandardForward)


_FAMILIES: dict[type[nn.Module], type[StandardForward]] = {
    nn.Conv1d: Convolution,
    nn.Conv2d: Convolution,
    nn.Conv3d: Convolution,
    nn.ConvTranspose1d: TransposedConvolution,
    nn.ConvTranspose2d: TransposedConvolution,
    nn.ConvTranspose3d: TransposedConvolution,
    nn.Linear: Linear,
    nn.Embedding: Embedding,
    nn.LayerNorm: Normalization,
    nn.GroupNorm: Normalization,
    nn.RMSNorm: Normalization,
}
