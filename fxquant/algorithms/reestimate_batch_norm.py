"""ReestimateBatchNorm: give the channels that a folded norm scaled the mean and spread they have in float.

With f the output of a layer in the float model and q that in the quantized one, per channel::

    a = std[f] / std[q]     weight' = a * weight     bias' = a * (bias - E[q]) + E[f]

which is what a batch norm behind the quantized layer gives when its statistics are taken anew. The range of
each weight channel is scaled alike, so that the codes stay and the change is exact. X. Sun et al.: Hybrid
8-bit Floating Point (HFP8) Training and Inference for Deep Neural Networks, NeurIPS 2019 (batch norm
re-tuning).
"""

from contextlib import closing
from dataclasses import dataclass
from functools import partial

import torch
from torch import fx

from fxquant.algorithms.base import Algorithm
from fxquant.algorithms.channel_layers import ChannelLayer, channel_layers_of
from fxquant.algorithms.context import Context
from fxquant.algorithms.output_moments import OutputMoments, output_moments
from fxquant.algorithms.streams import in_turn
from fxquant.graph.norm_note import norm_note
from fxquant.quantization.affine import QuantizeDequantize

_NOTHING = 1e-6  # share of the error that is not worth a change


@dataclass(frozen=True, kw_only=True)
class ReestimateBatchNorm(Algorithm):
    """Take the statistics of folded batch norms anew, in graph order, on the quantized model.

    A channel keeps its weight where that would not lower its error. Only layers into which a norm was folded,
    and whose weight has a range for each output channel, are changed. Ranges of activations move: calibrate
    again after it. It moves means as ``CorrectBias`` does and takes its place for these layers.
    """

    name = "reestimate-batch-norm"
    needs_batches = True
    needs_ranges = True

    def run(self, gm: fx.GraphModule, context: Context) -> None:
        layers = [layer for layer in channel_layers_of(gm)[0] if not layer.is_gain]
        wanted = {layer.calls[0]: layer for layer in layers}
        with closing(in_turn(gm, context.batches, wanted)) as found:
            for stage, layer in found:
                reason = _reason(layer)
                if reason:
                    context.declined(layer.name, reason)
                else:
                    _reestimate(layer, output_moments(stage, layer), context)


def _reason(layer: ChannelLayer) -> str:
    """Return why the norm of a layer cannot be taken anew; empty if it can."""
    if norm_note(layer.module) is None:
        return "no batch norm was folded into it"
    if len(layer.calls) > 1:
        return "it is called more than once"
    quantizer = _quantizer(layer)
    if quantizer is None:
        return "its weight is not quantized to integers"
    if quantizer.block_size or quantizer.shape != _shape(layer):
        return "its weight has no range for each output channel: a factor would round it anew"
    if not quantizer.is_overwrite_allowed():
        return "the range of its weight is fixed"
    return ""


def _quantizer(layer: ChannelLayer) -> QuantizeDequantize | None:
    quantizer = dict(getattr(layer.module, "param_quantizers", {})).get("weight")
    return quantizer if isinstance(quantizer, QuantizeDequantize) else None


def _shape(layer: ChannelLayer) -> tuple[int, ...]:
    """Return the shape of ranges by output channel; () where groups of a transposed layer share them."""
    if layer.is_transposed:
        ones = (1,) * (layer.weight.dim() - 2)
        return (1, layer.num_outputs, *ones) if layer.groups == 1 else ()
    return (layer.num_outputs, *(1,) * (layer.weight.dim() - 1))


def _reestimate(layer: ChannelLayer, moments: OutputMoments, context: Context) -> None:
    one = torch.ones_like(moments.mean)
    is_spread = moments.quantized_variance > 0
    factor = torch.where(is_spread, (moments.variance / moments.quantized_variance).sqrt(), one)
    factor = torch.where((factor > 0) & factor.isfinite(), factor, one)
    moved = moments.error(one, moments.mean - moments.quantized_mean)
    scaled = moments.error(factor, moments.mean - factor * moments.quantized_mean)
    factor = torch.where(scaled < moved, factor, one)
    shift = moments.mean - factor * moments.quantized_mean
    before, after = moments.error(one, 0 * one), moments.error(factor, shift)
    shares = moments.share(before), moments.share(after)
    if not bool(shift.isfinite().all()):
        context.declined(layer.name, "its output is not finite")
        return
    if float(after.sum()) >= float(before.sum()) * (1 - _NOTHING):
        context.declined(layer.name, "mean and spread of its output did not move", *shares)
        return
    bias = torch.zeros_like(shift) if layer.bias is None else layer.bias.detach().double()
    context.set_parameter(layer.module, "bias", factor * bias + shift, changes_function=True)
    context.change(layer.weight, layer.scaled(one.new_ones(layer.num_inputs), factor))
    quantizer = _quantizer(layer)
    assert quantizer is not None
    low, high = quantizer.get_min(), quantizer.get_max()
    assert low is not None and high is not None
    before_range = low.detach().clone(), high.detach().clone()
    context.on_error(partial(quantizer.set_range, *before_range))
    quantizer.set_range(*((end * factor.reshape(end.shape)).to(end.dtype) for end in before_range))
    reason = f"factors from {float(factor.min()):.3g} to {float(factor.max()):.3g}"
    context.applied(layer.name, reason, *shares)
