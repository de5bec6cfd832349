"""Equalize: cross-layer equalization, which gives the channels between layers like ranges.

A positive factor passes through a ReLU, a pool or a sum: W2 f(W1 x + b) = (W2 S) f(S^-1 (W1 x + b)) for every
diagonal S > 0. S is chosen so that the channels of both weights take up like shares of their tensor's range::

    p1[i] = max|W1[i, :]| / max|W1|     p2[i] = max|W2[:, i]| / max|W2|     S[i] = sqrt(p1[i] / p2[i])

M. Nagel, M. van Baalen, T. Blankevoort, M. Welling: Data-Free Quantization Through Weight Equalization and
Bias Correction, ICCV 2019, section 4.1, equations 8 to 11. Where several layers write or read one tensor, as
around residual branches, p1 and p2 are the largest shares among them.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import fx

from fxquant.algorithms.base import Algorithm
from fxquant.algorithms.channel_graph import ChannelGraph
from fxquant.algorithms.context import Context
from fxquant.algorithms.equalization_site import EqualizationSite
from fxquant.algorithms.model_inputs import model_inputs
from fxquant.errors import OptionError
from fxquant.graph.annotations import layer_of
from fxquant.graph.norm_note import norm_note
from fxquant.graph.values import op_of, operand_of

_CONVERGED = 1e-4  # of the logarithm of a factor


@dataclass(frozen=True, kw_only=True)
class Equalize(Algorithm):
    """Scale the channels between layers so that per-tensor grids serve all of them; the function stays.

    Ranges that were found before are stale after it: calibrate again. It needs no data, but one call of the
    model to see shapes: the example it was prepared with, or the first batch.

    Attributes:
        iterations: How often to go through all places at most; along chains of layers one is not enough.
        powers_of_two: Whether to round factors to powers of two: the float model then gives the same bits.
        replace_clips: Whether to take ReLU6 for ReLU, which changes the function where a value is above 6. A
            factor does not pass a ReLU6; the layers around it are left alone otherwise.

    Raises:
        OptionError: If iterations is not positive.
        BatchError: If no call of the model is known.
    """

    name = "equalize"
    iterations: int = 20
    powers_of_two: bool = False
    replace_clips: bool = False

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise OptionError(
                f"'iterations' is {self.iterations}; it must be positive.", remedy="Pass 20, say."
            )

    def run(self, gm: fx.GraphModule, context: Context) -> None:
        channels = ChannelGraph(gm, model_inputs(gm, context), self.replace_clips)
        sites = []
        for sides in channels.sites():
            site = EqualizationSite.of(channels, sides)
            if isinstance(site, str):
                for side in sides:
                    if side.is_output:
                        context.declined(side.layer.name, site)
                continue
            sites.append(site)
        for name, module in gm.named_modules():
            if module in channels.declined:
                context.declined(name, channels.declined[module])
        scales = torch.ones(channels.num_variables, dtype=torch.float64)
        before = [site.loss(scales) for site in sites]
        for _ in range(self.iterations):
            if max([site.update(scales) for site in sites], default=0.0) < _CONVERGED:
                break
        scales = torch.exp2(torch.log2(scales).round()) if self.powers_of_two else scales
        for site, loss in zip(sites, before, strict=True):
            largest = float(scales[site.roots].log().abs().max())
            if largest < _CONVERGED:
                context.declined(site.name, "its channels have like ranges", before=loss, after=loss)
                scales[site.roots] = 1.0
            else:
                reason = f"factors from {scales[site.roots].min():.3g} to {scales[site.roots].max():.3g}"
                context.applied(site.name, reason, before=loss, after=site.loss(scales))
        _write(channels, scales, context)
        _unclip(gm, channels, scales, context)


def _write(channels: ChannelGraph, scales: torch.Tensor, context: Context) -> None:
    """Write the weights and biases, and the notes of folded norms, under the factors."""
    for side in channels.sides:
        layer, inputs, outputs = side.layer, scales[side.inputs], 1 / scales[side.outputs]
        if not side.is_output or not bool((inputs != 1).any() or (outputs != 1).any()):
            continue
        outputs = outputs.to(layer.weight.device)
        context.write(layer.weight, layer.scaled(inputs.to(layer.weight.device), outputs))
        note = norm_note(layer.module)
        held = [layer.bias] + ([] if note is None else [note.mean, note.std])
        for tensor in held:
            if tensor is not None:
                context.write(tensor, tensor.detach().double() * outputs)


def _unclip(gm: fx.GraphModule, channels: ChannelGraph, scales: torch.Tensor, context: Context) -> None:
    """Replace ops with an upper end, through which a factor passes now."""
    for node, variables in channels.unclipped.items():
        op = op_of(gm, node)
        if op is None or op.unclipped is None or bool((scales[variables] == 1).all()):
            continue
        context.on_error(partial(_call, gm, node, node.op, node.target, node.args, node.kwargs))
        _call(gm, node, "call_function", op.unclipped, (operand_of(node, op.activations[0]),), {})
        context.applied(layer_of(node), f"'{op.name}' has no upper end any more")


def _call(gm: fx.GraphModule, node: fx.Node, op: str, target: Any, args: Any, kwargs: Any) -> None:
    """Let a node call something else."""
    node.op, node.target, node.args, node.kwargs = op, target, args, kwargs
    gm.recompile()
