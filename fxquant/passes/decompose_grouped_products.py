"""DecomposeGroupedProducts: write a product with another matrix for each group of rows out, group by group.

Before::

    grouped = grouped_mm(x, .transpose(experts, -2, -1), offs=ends)

After::

    parts = split_groups(x, ends)
    linear = linear(getitem(parts, 0), experts_0)
    linear_1 = linear(getitem(parts, 1), experts_1)
    grouped = join_groups([linear, linear_1], x)
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.graph.annotations import LAYER, MACS, layer_of
from fxquant.graph.edit import add_parameter, remove_dead_code
from fxquant.graph.groups import join_groups, split_groups
from fxquant.graph.values import attribute, is_constant, op_of, operand_of, transposed_constant
from fxquant.ops import GROUPED_MATMUL
from fxquant.passes.base import Changes, Pass


@dataclass(frozen=True)
class DecomposeGroupedProducts(Pass):
    """Write a product with another matrix for each group of rows out, group by group."""

    name = "decompose-grouped-products"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        matrices: dict[str, list[str]] = {}
        for node in list(gm.graph.nodes):
            op = op_of(gm, node)
            if op is not GROUPED_MATMUL:
                continue
            rows, weight, ends = (operand_of(node, operand) for operand in GROUPED_MATMUL.operands)
            found = _stacked(gm, weight)
            has_more = any(node.kwargs.get(name) is not None for name in ("bias", "out_dtype"))
            if not isinstance(rows, fx.Node) or not isinstance(ends, fx.Node) or found is None or has_more:
                reason = "its matrices are computed, its ends are not given, or it adds a bias"
                self.declined(gm, node, report, reason)
                continue
            path, is_transposed = found
            if path not in matrices:
                matrices[path] = _taken_apart(gm, path)
            output = _written_out(
                gm, node, rows, ends, matrices[path], F.linear if is_transposed else torch.matmul
            )
            self.applied(gm, output, report, f"now {len(matrices[path])} products")
            has_changed = True
        if has_changed:
            remove_dead_code(gm, gm.graph)
        for path in matrices:
            _forget_unread(gm, path)
        return has_changed


def _stacked(gm: fx.GraphModule, weight: object) -> tuple[str, bool] | None:
    """Return the path of a constant [groups, in, out], and whether it is stored as [groups, out, in]."""
    if not isinstance(weight, fx.Node):
        return None
    source = weight if is_constant(weight) else transposed_constant(gm, weight)
    tensor = None if source is None else attribute(gm, source)
    if source is None or not isinstance(tensor, torch.Tensor) or tensor.dim() != 3:
        return None
    return str(source.target), source is not weight


def _taken_apart(gm: fx.GraphModule, path: str) -> list[str]:
    """Return the paths of one matrix per group: parameters that share the memory of the stacked one."""
    owner, _, name = path.rpartition(".")
    stacked = getattr(gm.get_submodule(owner), name)
    return [
        add_parameter(gm, f"{path}_{index}", nn.Parameter(matrix, requires_grad=stacked.requires_grad))
        for index, matrix in enumerate(stacked.detach())
    ]


def _forget_unread(gm: fx.GraphModule, path: str) -> None:
    """Remove a stacked parameter that nothing reads any more."""
    owner, _, name = path.rpartition(".")
    if all(node.target != path for node in gm.graph.find_nodes(op="get_attr")):
        delattr(gm.get_submodule(owner), name)


def _written_out(
    gm: fx.GraphModule,
    node: fx.Node,
    rows: fx.Node,
    ends: fx.Node,
    matrices: list[str],
    product: Callable[..., object],
) -> fx.Node:
    share, more = divmod(node.meta.get(MACS, 0), len(matrices))

    def call(target: object, *args: object) -> fx.Node:
        made = gm.graph.call_function(target, args)  # type: ignore[arg-type]  # a function on nodes
        made.meta[LAYER] = layer_of(node)
        return made

    with gm.graph.inserting_before(node):
        parts, products = call(split_groups, rows, ends), []
        for index, path in enumerate(matrices):
            matrix = gm.graph.get_attr(path)
            matrix.meta[LAYER] = layer_of(node)
            products.append(call(product, call(operator.getitem, parts, index), matrix))
            products[-1].meta[MACS] = share + (more if index == 0 else 0)
        output = call(join_groups, products, rows)
    output.meta.update({key: value for key, value in node.meta.items() if key != MACS})
    node.replace_all_uses_with(output)
    gm.graph.erase_node(node)
    return output
