"""Edits of a graph that keep node.meta and the user's layer names."""

import operator
import re
from collections.abc import Callable

from torch import fx, nn

from fxquant.graph.annotations import LAYER, layer_of


def add_module(gm: fx.GraphModule, path: str, module: nn.Module) -> str:
    """Add a submodule under a dotted path, made unique with a number; return the path it got."""
    free, count = path, 1
    while _exists(gm, free):
        free, count = f"{path}_{count}", count + 1
    gm.add_submodule(free, module)
    return free


def set_module(gm: fx.GraphModule, path: str, module: nn.Module) -> None:
    """Put another module where one is."""
    parent, _, name = path.rpartition(".")
    setattr(gm.get_submodule(parent), name, module)


def insert_call(gm: fx.GraphModule, path: str, operand: fx.Node, after: fx.Node) -> fx.Node:
    """Insert a call of a submodule on one operand, right after a node; it belongs to the operand's layer."""
    with gm.graph.inserting_after(after):
        call = gm.graph.call_module(path, (operand,))
    call.meta[LAYER] = layer_of(operand)
    return call


def bypass(gm: fx.GraphModule, node: fx.Node, value: fx.Node) -> None:
    """Let every user of a node read another value, and erase the node."""
    node.replace_all_uses_with(value)
    gm.graph.erase_node(node)


def remove_dead_code(gm: fx.GraphModule) -> None:
    """Erase nodes that nothing reads and that write nothing: in-place methods and item assignment stay."""

    def has_effect(node: fx.Node) -> bool:
        writes_in_place = node.op == "call_method" and str(node.target).endswith("_")
        return writes_in_place or node.target is operator.setitem or node.is_impure()

    gm.graph.eliminate_dead_code(has_effect)


def callers(gm: fx.GraphModule, chosen: Callable[[nn.Module], bool]) -> dict[int, list[fx.Node]]:
    """Return the calls of the chosen modules, by module identity: one module may have several paths."""
    calls: dict[int, list[fx.Node]] = {}
    for node in gm.graph.nodes:
        if node.op == "call_module":
            module = gm.get_submodule(str(node.target))
            if chosen(module):
                calls.setdefault(id(module), []).append(node)
    return calls


def identifier(name: str) -> str:
    """Return a name with everything that cannot stand in an attribute path replaced by an underscore."""
    return re.sub(r"\W", "_", name)


def _exists(gm: fx.GraphModule, path: str) -> bool:
    module: object = gm
    for name in path.split("."):
        if not hasattr(module, name):
            return False
        module = getattr(module, name)
    return True
