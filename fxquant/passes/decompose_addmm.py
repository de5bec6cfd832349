"""DecomposeAddmm: write an added matrix product out as a product and a sum.

Before::

    addmm = addmm(bias, x, weight)

After::

    product = matmul(x, weight)
    addmm = add(product, bias)
"""

import operator
from dataclasses import dataclass

import torch
from torch import fx

from fxquant.graph import Report
from fxquant.graph.annotations import MACS
from fxquant.passes.base import Changes, Pass

_ADDED_PRODUCTS = (torch.addmm, torch.baddbmm)


@dataclass(frozen=True)
class DecomposeAddmm(Pass):
    """Write an added matrix product out as a product and a sum."""

    name = "decompose-addmm"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for node in list(gm.graph.nodes):
            if node.op != "call_function" or node.target not in _ADDED_PRODUCTS:
                continue
            beta, alpha = node.kwargs.get("beta", 1), node.kwargs.get("alpha", 1)
            if len(node.args) != 3 or isinstance(beta, fx.Node) or isinstance(alpha, fx.Node):
                self.declined(gm, node, report, "its operands or factors are not given by position")
                continue
            added, first, second = node.args
            with gm.graph.inserting_before(node):
                output = gm.graph.call_function(torch.matmul, (first, second))
                output.meta |= node.meta
                if alpha != 1:
                    output = self._next(gm, node, operator.mul, output, alpha)
                if beta not in (0, 1):
                    added = self._next(gm, node, operator.mul, added, beta)
                if beta != 0:
                    output = self._next(gm, node, operator.add, output, added)
            node.replace_all_uses_with(output)
            gm.graph.erase_node(node)
            self.applied(gm, output, report, "now a product and a sum")
            has_changed = True
        return has_changed

    def _next(
        self, gm: fx.GraphModule, node: fx.Node, function: object, left: object, right: object
    ) -> fx.Node:
        made = gm.graph.call_function(function, (left, right))  # type: ignore[arg-type]  # an operator on nodes
        made.meta |= {key: value for key, value in node.meta.items() if key != MACS}
        return made
