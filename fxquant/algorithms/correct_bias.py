"""CorrectBias: give the mean of each output channel back what quantization took from it.

    bias' = bias + E[f] - E[q]

where f is the output of a layer in the float model and q that in the quantized model, whose layers before it
are corrected already. M. Nagel, M. van Baalen, T. Blankevoort, M. Welling: Data-Free Quantization Through
Weight Equalization and Bias Correction, ICCV 2019, section 4.2 and appendix D (empirical bias correction).
"""

from contextlib import closing
from dataclasses import dataclass

import torch
from torch import fx

from fxquant.algorithms.base import Algorithm
from fxquant.algorithms.channel_layers import ChannelLayer, channel_layers_of, has_blocks
from fxquant.algorithms.context import Context
from fxquant.algorithms.output_moments import OutputMoments, output_moments
from fxquant.algorithms.streams import in_turn

_NOTHING = 1e-6  # share of the error that is not worth a change


@dataclass(frozen=True, kw_only=True)
class CorrectBias(Algorithm):
    """Move the bias of each layer by the difference of its mean outputs, in graph order.

    Data runs layer by layer through the float and the quantized model; between two layers only what later
    ones read is kept. Ranges of activations move with the biases: calibrate again after it. Run it last of
    what changes weights.
    """

    name = "correct-bias"
    needs_batches = True
    needs_ranges = True

    def run(self, gm: fx.GraphModule, context: Context) -> None:
        layers, declined = channel_layers_of(gm)
        for module, reason in declined.items():
            context.declined(next(name for name, held in gm.named_modules() if held is module), reason)
        wanted = {layer.calls[0]: layer for layer in layers if not layer.is_gain}
        with closing(in_turn(gm, context.batches, wanted)) as found:
            for stage, layer in found:
                reason = _reason(layer)
                if reason:
                    context.declined(layer.name, reason)
                else:
                    _correct(layer, output_moments(stage, layer), context)


def _reason(layer: ChannelLayer) -> str:
    """Return why the bias of a layer cannot be corrected; empty if it can."""
    if len(layer.calls) > 1:
        return "it is called more than once, on inputs with means of their own"
    if layer.bias is None and has_blocks(layer):
        return "its bias is added by an op of its own, or there is none"
    return ""


def _correct(layer: ChannelLayer, moments: OutputMoments, context: Context) -> None:
    one = torch.ones_like(moments.mean)
    shift = moments.mean - moments.quantized_mean
    before, after = moments.error(one, 0 * one), moments.error(one, shift)
    shares = moments.share(before), moments.share(after)
    if not bool(shift.isfinite().all()):
        context.declined(layer.name, "its output is not finite")
    elif float(after.sum()) >= float(before.sum()) * (1 - _NOTHING):
        context.declined(layer.name, "the means of its output did not move", *shares)
    else:
        bias = torch.zeros_like(shift) if layer.bias is None else layer.bias.detach().double()
        context.set_parameter(layer.module, "bias", bias + shift, changes_function=True)
        context.applied(layer.name, f"bias moved by up to {float(shift.abs().max()):.3g}", *shares)
