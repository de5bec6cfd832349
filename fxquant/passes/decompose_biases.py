"""DecomposeBiases: write a linear layer whose weight is in blocks as a product and the sum with its bias.

A kernel with a scale per block adds no int32 bias: there is no one scale for it. As an op of its own the sum
is quantized like any other, in the simulation and in the file.

Before::

    linear = Linear[linear](x)

After::

    product = Linear[linear](x)          # without a bias
    linear_bias = .linear_bias
    linear = add(product, linear_bias)
"""

import copy
import operator
from dataclasses import dataclass, replace

from torch import fx, nn

from fxquant.graph import Report
from fxquant.graph.annotations import LAYER, RESULT, layer_of
from fxquant.graph.edit import add_parameter, callers, set_module
from fxquant.graph.values import op_of
from fxquant.passes.base import Changes, Pass
from fxquant.targets import Placement, get_target


@dataclass(frozen=True)
class DecomposeBiases(Pass):
    """Write linear layers whose weights are in blocks as a product and the sum with a constant.

    Attributes:
        target: Name of the target.
    """

    target: str = "tensorrt"

    name = "decompose-biases"
    changes = Changes.STRUCTURE
    after = ("swap-layers", "fold-batch-norm")

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for calls in callers(gm, lambda module: True).values():
            layer = gm.get_submodule(str(calls[0].target))
            bias = layer._parameters.get("bias")
            if bias is None or not self._has_blocks(gm, calls[0], layer):
                continue
            product = copy.copy(layer)
            product._parameters = {**layer._parameters, "bias": None}
            for target in {str(call.target) for call in calls}:
                set_module(gm, target, product)
            has_changed = True
            if not bool(bias.any()):
                self.applied(gm, calls[0], report, "its bias of zeros is left out")
                continue
            path = add_parameter(gm, f"{calls[0].target}_bias", bias)
            for call in calls:
                self.applied(gm, _add(gm, call, path), report, "its bias is added by an op of its own")
        return has_changed

    def _has_blocks(self, gm: fx.GraphModule, node: fx.Node, layer: nn.Module) -> bool:
        """Whether the target quantizes the weight of a layer in blocks, and its activations."""
        target, op = get_target(self.target), op_of(gm, node)
        weight = layer._parameters.get("weight")
        if op is None or op.weight is None or op.bias is None or weight is None or target.activation is None:
            return False
        rule = target.rule(op.name)
        spec = rule.weight or replace(target.weight, channel_axis=op.weight.channel_axis)
        return rule.placement is Placement.INTEGER and spec.has_blocks(tuple(weight.shape))


def _add(gm: fx.GraphModule, call: fx.Node, path: str) -> fx.Node:
    """Add the bias at a path to what a call gives, for all that reads it."""
    readers = list(call.users)
    with gm.graph.inserting_after(call):
        constant = gm.graph.get_attr(path)
    with gm.graph.inserting_after(constant):
        total = gm.graph.call_function(operator.add, (call, constant))
    constant.meta[LAYER] = layer_of(call)
    total.meta.update({key: call.meta[key] for key in (LAYER, RESULT) if key in call.meta})
    for reader in readers:
        reader.replace_input_with(call, total)
    return total
