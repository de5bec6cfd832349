"""DecomposeEinsum: write an einsum of two tensors out as a matrix product, which targets run in integers.

Every index of an einsum is of one kind: in both operands and the output (batch), in both alone (summed over),
in the output and one operand (rows, columns). So with the dimensions in that order it is a matrix product.

Before::

    einsum = einsum('bhd,khd->bhk', x, y)

After::

    left = .permute(x, (1, 0, 2))                # [h, b, d]
    right = .permute(y, (1, 2, 0))               # [h, d, k]
    matmul = matmul(left, right)                 # [h, b, k]
    einsum = .permute(matmul, (1, 0, 2))
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fxquant.graph import Report
from fxquant.graph.annotations import LAYER, MACS, layer_of, result_of
from fxquant.graph.values import op_of
from fxquant.ops import EINSUM, einsum_indices
from fxquant.passes.base import Changes, Pass


@dataclass(frozen=True)
class DecomposeEinsum(Pass):
    """Write an einsum of two tensors out as a matrix product."""

    name = "decompose-einsum"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for node in [node for node in gm.graph.nodes if op_of(gm, node) is EINSUM]:
            found = _contraction(node)
            if isinstance(found, str):
                self.declined(gm, node, report, found)
                continue
            with gm.graph.inserting_before(node):
                output = _Writer(gm.graph, node).write(*found)
            output.meta.update({key: value for key, value in node.meta.items() if key != MACS})
            node.replace_all_uses_with(output)
            gm.graph.erase_node(node)
            self.applied(gm, output, report, "now a matrix product")
            has_changed = True
        return has_changed


def _contraction(node: fx.Node) -> tuple[fx.Node, fx.Node, str, str, str] | str:
    """Return both operands, their indices and the output's; or why there is no matrix product."""
    equation, operands = node.args[0], node.args[1:]
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or len(operands) != 2:
        return "it has not two operands"
    first, second = operands
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node):
        return "it has not two operands"
    shapes = result_of(first), result_of(second)
    if shapes[0] is None or shapes[1] is None:
        return "the sizes of its operands are not known: prepare with example_inputs"
    (left, right), output = einsum_indices(equation, [len(shape.shape) for shape in shapes if shape])
    if len(set(left)) < len(left) or len(set(right)) < len(right):
        return "it takes a diagonal"
    if (set(left) ^ set(right)) - set(output):
        return "it sums over an index of one operand alone"
    sizes = dict(zip(left, shapes[0].shape, strict=True))
    if any(sizes.get(index, size) != size for index, size in zip(right, shapes[1].shape, strict=True)):
        return "it broadcasts an index"
    if any(sizes[index] == 1 for index in set(left) & set(right) - set(output)):
        return "it sums over an index of size 1, which may stand for any size"
    return first, second, left, right, output


class _Writer:
    """Writes the calls of one einsum, each with its layer; the product takes the multiply-accumulates."""

    def __init__(self, graph: fx.Graph, node: fx.Node) -> None:
        self._graph, self._node = graph, node

    def write(self, first: fx.Node, second: fx.Node, left: str, right: str, output: str) -> fx.Node:
        shared = [index for index in left if index in right]
        batch = [index for index in shared if index in output]
        summed = [index for index in shared if index not in output]
        rows = [index for index in left if index not in right]
        columns = [index for index in right if index not in left]
        sizes = {index: (first, left.index(index)) for index in left}
        sizes |= {index: (second, right.index(index)) for index in columns}
        keeps_rows = not batch and len(rows) > 0  # a matrix multiplies any number of leading dimensions
        matrix = self._merged(first, left, batch, [rows] if not keeps_rows else [[r] for r in rows], summed)
        other = self._merged(second, right, batch, [summed], columns)
        product = self._call(torch.matmul, (matrix, other))
        product.meta[MACS] = self._node.meta.get(MACS, 0)
        if len(columns) != 1:
            product = self._split(product, -1, [sizes[index] for index in columns])
        if not keeps_rows and len(rows) != 1:
            product = self._split(product, len(batch), [sizes[index] for index in rows])
        return self._permuted(product, [*batch, *rows, *columns], list(output))

    def _merged(
        self, operand: fx.Node, indices: str, batch: list[str], middle: list[list[str]], last: list[str]
    ) -> fx.Node:
        """Return an operand as [*batch, *middle, last], each group merged into one dimension."""
        groups = [*([index] for index in batch), *middle, last]
        moved = self._permuted(operand, list(indices), [index for group in groups for index in group])
        for dim, group in reversed(list(enumerate(groups))):
            start = sum(len(other) for other in groups[:dim])
            if not group:
                moved = self._call("unsqueeze", (moved, start))
            elif len(group) > 1:
                moved = self._call("flatten", (moved, start, start + len(group) - 1))
        return moved

    def _split(self, product: fx.Node, dim: int, parts: list[tuple[fx.Node, int]]) -> fx.Node:
        """Return a product with one dimension taken apart into those of operands; without it for none."""
        if not parts:
            return self._call("squeeze", (product, dim))
        sizes = tuple(self._call("size", part) for part in parts)
        return self._call("unflatten", (product, dim, sizes))

    def _permuted(self, value: fx.Node, given: list[str], wanted: list[str]) -> fx.Node:
        order = tuple(given.index(index) for index in wanted)
        return value if order == tuple(range(len(order))) else self._call("permute", (value, order))

    def _call(self, target: Any, args: tuple[Any, ...]) -> fx.Node:
        op = "call_method" if isinstance(target, str) else "call_function"
        made = self._graph.create_node(op, target, args)
        made.meta[LAYER] = layer_of(self._node)
        return made
