"""depth_below_common_ancestor: how long the branches are that meet in an add."""

import onnx_ir as ir

from fxquant.lint.graph import Graph


def depth_below_common_ancestor(graph: Graph, first: ir.Value, second: ir.Value) -> tuple[int, int] | None:
    """Return the longest paths from the lowest common ancestor to two values, in nodes.

    A QuantizeLinear or DequantizeLinear does not count. None where they have no common ancestor, not even an
    input of the model.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    above = [_ancestors(value) for value in (first, second)]
    shared = [value for value in above[0] if value in above[1]]
    if not shared:
        return None
    root = max(shared, key=lambda value: order.get(value.producer(), -1))  # type: ignore[arg-type]  # inputs: -1
    return _longest(root, first, above[0], order), _longest(root, second, above[1], order)


def _ancestors(value: ir.Value) -> dict[ir.Value, None]:
    """Return a value and all it comes from, constants aside."""
    found: dict[ir.Value, None] = {}
    waiting = [value]
    while waiting:
        current = waiting.pop()
        if current in found or current.const_value is not None:
            continue
        found[current] = None
        node = current.producer()
        if node is not None:
            waiting += [item for item in node.inputs if item is not None]
    return found


def _longest(root: ir.Value, value: ir.Value, among: dict[ir.Value, None], order: dict[ir.Node, int]) -> int:
    length = {root: 0}
    nodes = {item.producer() for item in among} - {None, root.producer()}
    for node in sorted((node for node in nodes if node is not None), key=lambda node: order[node]):
        reached = [length[item] for item in node.inputs if item is not None and item in length]
        if reached:
            step = 0 if node.op_type in ("QuantizeLinear", "DequantizeLinear") else 1
            length |= dict.fromkeys(node.outputs, max(reached) + step)
    return length.get(value, 0)
