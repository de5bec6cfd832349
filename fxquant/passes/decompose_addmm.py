"""DecomposeAddmm: write an added matrix product out as a product and a sum, or as a linear layer's call.

Before::

    addmm = addmm(bias, x, weight)
    addmm_1 = addmm(bias, addmm, .t(matrix))

After::

    product = matmul(x, weight)
    addmm = add(product, bias)
    linear = linear(addmm, matrix, bias)
"""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.graph.annotations import MACS
from fxquant.graph.values import attribute, is_constant, op_of, operand_of, transposed_constant
from fxquant.ops import ADDMM, BADDBMM, Op
from fxquant.passes.base import Changes, Pass


@dataclass(frozen=True)
class DecomposeAddmm(Pass):
    """Write an added matrix product out as a product and a sum, or as a linear layer's call."""

    name = "decompose-addmm"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for node in list(gm.graph.nodes):
            op = op_of(gm, node)
            if op is None or op not in (ADDMM, BADDBMM) or node.op == "call_module":
                continue
            beta, alpha = node.kwargs.get("beta", 1), node.kwargs.get("alpha", 1)
            added, first, second = _operands(node, op)
            if isinstance(beta, fx.Node) or isinstance(alpha, fx.Node) or not isinstance(first, fx.Node):
                self.declined(gm, node, report, "its factors are computed, or its matrices are not given")
                continue
            weight = transposed_constant(gm, second) if op is ADDMM else None
            with gm.graph.inserting_before(node):
                if weight is not None and alpha == beta == 1 and _is_bias(gm, added, weight):
                    output, beta = gm.graph.call_function(F.linear, (first, weight, added)), 0
                else:
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
            is_linear = output.target is F.linear
            self.applied(gm, output, report, f"now {'a linear call' if is_linear else 'a product and a sum'}")
            has_changed = True
        return has_changed

    def _next(
        self, gm: fx.GraphModule, node: fx.Node, function: object, left: object, right: object
    ) -> fx.Node:
        made = gm.graph.call_function(function, (left, right))  # type: ignore[arg-type]  # an operator on nodes
        made.meta |= {key: value for key, value in node.meta.items() if key != MACS}
        return made


def _operands(node: fx.Node, op: Op) -> list[Any]:
    return [operand_of(node, operand) for operand in op.operands]


def _is_bias(gm: fx.GraphModule, added: object, weight: fx.Node) -> bool:
    """Whether a linear layer can hold what is added: a constant with one number per output."""
    tensor = attribute(gm, added) if isinstance(added, fx.Node) and is_constant(added) else None
    matrix: Any = attribute(gm, weight)
    return isinstance(tensor, torch.Tensor) and tuple(tensor.shape) == tuple(matrix.shape[:1])
