"""WidenWeights: widen the weight ranges of channels whose int32 accumulator would overflow.

The accumulator of a fused kernel holds the bias at scale_input * scale_weight and the sum of the products.
Both shrink as the weight's scale grows. It matters for channels of tiny weights, such as pruned ones.

Before::

    conv = QuantizedConv2d[conv](x_quantizer)  {weight: symmetric [-127, 127]}

After::

    the same, with larger ranges where |bias| / (s_x * s_w) + steps * sum(|weight|) / s_w exceeds int32
"""

from dataclasses import dataclass

import torch
from torch import fx

from fxquant.graph import Report
from fxquant.graph.edit import callers
from fxquant.graph.values import op_of, quantizer_of
from fxquant.nn import QuantizationMixin
from fxquant.passes.base import Changes, Pass
from fxquant.quantization import AffineEncoding
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.quantization.affine.exact_encoding import set_exactly

_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class WidenWeights(Pass):
    """Widen the weight ranges of channels whose int32 accumulator would overflow."""

    name = "widen-weights"
    changes = Changes.VALUES
    after = ("swap-modules",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for calls in callers(gm, lambda module: isinstance(module, QuantizationMixin)).values():
            module = gm.get_submodule(str(calls[0].target))
            assert isinstance(module, QuantizationMixin)
            op, weight, bias = (
                op_of(gm, calls[0]),
                module._parameters.get("weight"),
                module._parameters.get("bias"),
            )
            quantizer = dict(module.param_quantizers.items()).get("weight")
            if op is None or op.weight is None or op.weight.channel_axis is None:
                continue
            if weight is None or bias is None:
                continue
            if not isinstance(quantizer, QuantizeDequantize) or quantizer.block_size:
                continue
            sources = [quantizer_of(gm, call.all_input_nodes[0]) for call in calls]
            encodings = [source.get_encodings() for source in sources if source is not None]
            axis = op.weight.channel_axis
            widened = [
                _widen(quantizer, source, weight, bias, axis)
                for source in encodings
                if isinstance(source, AffineEncoding)
            ]
            if any(widened):
                self.applied(gm, calls[0], report, "weight ranges widened: the accumulator would overflow")
                has_changed = True
        return has_changed


def _widen(
    quantizer: QuantizeDequantize, source: AffineEncoding, weight: torch.Tensor, bias: torch.Tensor, axis: int
) -> bool:
    """Widen a weight's range per channel as needed; return whether it was."""
    encoding = quantizer.get_encodings()
    assert encoding is not None
    real = bias.detach().abs().double() / source.scale.double()
    magnitudes = weight.detach().abs().double().transpose(0, axis).flatten(1).sum(1)
    magnitudes = magnitudes if len(magnitudes) == len(real) else magnitudes.amax()  # grouped transposed conv
    needed = (real + (source.qmax - source.qmin) * magnitudes) / _LARGEST
    needed = needed.reshape(-1, encoding.scale.numel()).amax(0)  # groups of a transposed convolution share
    factor = (needed.reshape(encoding.scale.shape) / encoding.scale.double()).clamp_min(1.0)
    if not bool((factor > 1.0).any()):
        return False
    factor = torch.where(factor > 1.0, factor * (1.0 + 2.0**-20), factor).to(
        encoding.scale.dtype
    )  # rounds up
    set_exactly(quantizer, encoding.scale.detach() * factor, encoding.offset.detach())
    return True
