"""RemoveGivenQuantizers: take a model's own quantizers out, and note what they did on what they quantized.

Before::

    relu = ReLU[relu](x)
    quantized = TensorQuantizer[quantizer](relu)
    add = add(y, quantized)

After::

    relu = ReLU[relu](x)                        # given: amax 2.5
    add = add(y, relu)
"""

from dataclasses import dataclass

import torch
from torch import fx

from fxquant.graph import Report
from fxquant.graph.annotations import FLOAT_WHY, GIVEN
from fxquant.graph.edit import add_buffer, bypass, identifier
from fxquant.graph.values import attribute, is_constant
from fxquant.passes.base import Changes, Pass
from fxquant.quantization.given import Given, GivenQuantizer, given_for, given_to, keep_for, widest


@dataclass(frozen=True)
class RemoveGivenQuantizers(Pass):
    """Take the quantizers out that the model held before, and keep what they did as notes on tensors."""

    name = "remove-given-quantizers"
    changes = Changes.BOTH

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for node in list(gm.graph.nodes):
            module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(module, GivenQuantizer):
                has_changed |= self._remove(gm, node, module, report)
            elif module is not None and given_to(module) is not None:
                self._note_layer(gm, node, module, report)
        return has_changed

    def _remove(self, gm: fx.GraphModule, node: fx.Node, quantizer: GivenQuantizer, report: Report) -> bool:
        source = node.args[0] if node.args else None
        given = quantizer.given(str(node.target))
        if isinstance(given, str) or not isinstance(source, fx.Node):
            reason = given if isinstance(given, str) else "its input is not named"
            self.declined(gm, node, report, reason)
            return False
        if given.factor is not None:
            source = _multiplied(gm, node, source, given.factor)
        self.applied(gm, node, report, _note(gm, source, given))
        if not given.is_on:
            for user in node.users:
                user.meta[FLOAT_WHY] = f"the model's own quantizer '{given.path}' is disabled"
        path = str(node.target)
        bypass(gm, node, source)
        if not gm.graph.find_nodes(op="call_module", target=path):
            gm.delete_submodule(path)
        return True

    def _note_layer(self, gm: fx.GraphModule, node: fx.Node, layer: torch.nn.Module, report: Report) -> None:
        given = given_to(layer)
        assert given is not None
        source = node.args[0] if node.args else None
        if given.off:
            node.meta[FLOAT_WHY] = f"the model's own quantizer of its {given.off} is disabled"
        for what in given.lost:
            self.declined(gm, node, report, f"one range of its {what} says nothing of each")
        if given.input is not None and isinstance(source, fx.Node):
            self.applied(gm, node, report, _note(gm, source, given.input))


def _multiplied(gm: fx.GraphModule, node: fx.Node, source: fx.Node, factor: torch.Tensor) -> fx.Node:
    buffer = add_buffer(gm, identifier(f"{node.target}_factor"), factor.detach())
    with gm.graph.inserting_before(node):
        scale = gm.graph.get_attr(buffer)
        product = gm.graph.call_function(torch.mul, (source, scale))
    product.meta.update(node.meta)
    return product


def _note(gm: fx.GraphModule, source: fx.Node, given: Given) -> str:
    """Note what is given for a tensor; return what was noted, in words."""
    if is_constant(source):
        tensor = attribute(gm, source)
        before = given_for(tensor)
        assert isinstance(tensor, torch.Tensor)
        keep_for(tensor, widest(before, given))
    else:
        source.meta[GIVEN] = widest(source.meta.get(GIVEN), given)
    if not given.is_on:
        return "it is disabled: what reads the tensor stays float"
    return "its range is kept" if given.amax is not None else "it has no range of its own to keep"
