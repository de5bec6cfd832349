"""DecomposeActivations: write activation functions that a target lacks as the products they are.

Before::

    silu = silu(x)

After::

    sigmoid = sigmoid(x)
    mul = mul(x, sigmoid)

and mish(x) as x * tanh(softplus(x)).
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import fx

from fxquant.graph import Report
from fxquant.graph.annotations import LAYER, RESULT
from fxquant.graph.values import op_of
from fxquant.passes.base import Changes, Pass


@dataclass(frozen=True)
class DecomposeActivations(Pass):
    """Write activation functions as a product of the input and a gate, where they have one."""

    name = "decompose-activations"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for node in list(gm.graph.nodes):
            op = op_of(gm, node)
            gate = () if op is None else op.gate
            if not gate:
                continue
            (source,) = node.all_input_nodes
            with gm.graph.inserting_before(node):
                value = source
                for function in gate:
                    value = _call(gm, function, (value,), node)
                product = _call(gm, operator.mul, (source, value), node)
            node.replace_all_uses_with(product)
            gm.graph.erase_node(node)
            self.applied(gm, product, report, "written as a product")
            has_changed = True
        if has_changed:
            gm.delete_all_unused_submodules()
        return has_changed


def _call(gm: fx.GraphModule, function: Callable[..., Any], args: tuple[Any, ...], like: fx.Node) -> fx.Node:
    call = gm.graph.call_function(function, args)
    call.meta.update({key: like.meta[key] for key in (LAYER, RESULT) if key in like.meta})
    return call
