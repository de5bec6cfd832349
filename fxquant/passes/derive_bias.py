"""DeriveBias: put biases on the int32 grid that the integer accumulator has.

``scale_bias[c] = scale_input * scale_weight[c]``, offset 0: the grid on which a fused kernel adds the bias.

Before::

    conv = QuantizedConv2d[conv](x_quantizer)  {weight: symmetric [-127, 127]}

After::

    the same, {weight: symmetric [-127, 127], bias: symmetric [-2147483648, 2147483647]}
"""

from dataclasses import dataclass

import torch
from torch import fx

from fxquant.graph import Report
from fxquant.graph.edit import callers, keep_float
from fxquant.graph.values import quantizer_of
from fxquant.nn import QuantizationMixin
from fxquant.passes.base import Changes, Pass
from fxquant.quantization import AffineEncoding
from fxquant.quantization.affine import QuantizeDequantize

_INT32 = -(2**31), 2**31 - 1


@dataclass(frozen=True)
class DeriveBias(Pass):
    """Store each bias as int32 codes at scale_input * scale_weight."""

    name = "derive-bias"
    changes = Changes.VALUES
    after = ("swap-modules", "widen-weights")

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for calls in callers(gm, lambda module: isinstance(module, QuantizationMixin)).values():
            node = calls[0]
            module = gm.get_submodule(str(node.target))
            assert isinstance(module, QuantizationMixin)
            quantizer, bias = (
                dict(module.param_quantizers.items()).get("weight"),
                module._parameters.get("bias"),
            )
            if bias is None or not isinstance(quantizer, QuantizeDequantize):
                continue
            sources = {quantizer_of(gm, call.all_input_nodes[0]) for call in calls}
            source = sources.pop() if len(sources) == 1 else None  # None too where the input stays float
            encoding = None if source is None else source.get_encodings()
            if not isinstance(encoding, AffineEncoding):
                several = "it is called on inputs with several scales: its bias stays float"
                self.declined(gm, node, report, several if sources else "its input and bias stay float")
                continue
            if quantizer.block_size:
                self.declined(gm, node, report, "its weight is in blocks: its bias stays float")
                continue
            for path in {str(call.target) for call in calls}:
                keep_float(gm, f"{path}.bias")
            module.freeze_parameter("bias", _bias_encoding(quantizer, encoding, bias.numel()))
            self.applied(gm, node, report, "bias as int32 at scale_input * scale_weight")
            has_changed = True
        return has_changed


def _bias_encoding(quantizer: QuantizeDequantize, source: AffineEncoding, channels: int) -> AffineEncoding:
    weight = quantizer.get_encodings()
    assert weight is not None
    scale = (source.scale * weight.scale).detach()
    scale = scale.reshape(-1) if scale.numel() > 1 else scale.reshape(())
    if scale.dim() and channels > len(scale):  # groups of a transposed convolution share scales
        scale = scale.repeat(channels // len(scale))
    return AffineEncoding(scale, torch.zeros_like(scale), *_INT32, True)
