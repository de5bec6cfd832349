"""Edits of a graph that keep node.meta and the user's layer names."""

import copy
import re
from collections.abc import Callable, Mapping

import torch
from torch import fx, nn

from fxquant.graph.aliases import writes_in_place
from fxquant.graph.annotations import GIVEN, LAYER, layer_of
from fxquant.graph.names import free_name


def add_module(gm: fx.GraphModule, path: str, module: nn.Module) -> str:
    """Add a submodule under a dotted path, made unique with a number; return the path it got."""
    free = free_name(path, lambda name: _exists(gm, name))
    gm.add_submodule(free, module)
    return free


def set_module(gm: fx.GraphModule, path: str, module: nn.Module) -> None:
    """Put another module where one is."""
    parent, _, name = path.rpartition(".")
    setattr(gm.get_submodule(parent), name, module)


def with_submodules(module: nn.Module, replaced: Mapping[str, nn.Module]) -> nn.Module:
    """Return a shallow copy of a module with other submodules, given by dotted path."""
    copied = copy.copy(module)
    copied._modules = dict(module._modules)
    for name, child in module._modules.items():
        if name in replaced:
            copied._modules[name] = replaced[name]
        elif child is not None:
            below = {p[len(name) + 1 :]: m for p, m in replaced.items() if p.startswith(f"{name}.")}
            copied._modules[name] = with_submodules(child, below) if below else child
    return copied


def insert_call(gm: fx.GraphModule, path: str, operand: fx.Node, after: fx.Node) -> fx.Node:
    """Insert a call of a submodule on one operand, right after a node; it belongs to the operand's layer."""
    with gm.graph.inserting_after(after):
        call = gm.graph.call_module(path, (operand,))
    call.meta[LAYER] = layer_of(operand)
    return call


def bypass(gm: fx.GraphModule, node: fx.Node, value: fx.Node) -> None:
    """Let every user of a node read another value, and erase the node; what was given for it goes over."""
    if GIVEN in node.meta:
        value.meta.setdefault(GIVEN, node.meta[GIVEN])
    node.replace_all_uses_with(value)
    gm.graph.erase_node(node)


def remove_dead_code(root: nn.Module, graph: fx.Graph) -> None:
    """Erase nodes that nothing reads and that write nothing: in-place methods and item assignment stay.

    Args:
        root: The module that holds what the graph calls.
        graph: The graph.
    """

    def has_effect(node: fx.Node) -> bool:
        is_module = node.op == "call_module"  # an impure node asks its graph module, which there may not be
        return writes_in_place(root, node) or (not is_module and node.is_impure())

    graph.eliminate_dead_code(has_effect)


def callers(gm: fx.GraphModule, chosen: Callable[[nn.Module], bool]) -> dict[int, list[fx.Node]]:
    """Return the calls of the chosen modules, by module identity: one module may have several paths."""
    calls: dict[int, list[fx.Node]] = {}
    for node in gm.graph.nodes:
        if node.op == "call_module":
            module = gm.get_submodule(str(node.target))
            if chosen(module):
                calls.setdefault(id(module), []).append(node)
    return calls


def add_buffer(gm: fx.GraphModule, name: str, tensor: torch.Tensor) -> str:
    """Add a buffer at the root, its name made unique with a number; return the name it got."""
    free = free_name(name, lambda name: _exists(gm, name))
    gm.register_buffer(free, tensor)
    return free


def add_parameter(gm: fx.GraphModule, path: str, parameter: nn.Parameter) -> str:
    """Add a parameter under a dotted path, made unique with a number; return the path it got."""
    free = free_name(path, lambda name: _exists(gm, name))
    owner, _, name = free.rpartition(".")
    gm.get_submodule(owner).register_parameter(name, parameter)
    return free


def keep_float(gm: fx.GraphModule, path: str) -> None:
    """Let constants that read a parameter read a copy, before a pass changes the parameter itself."""
    readers = [node for node in gm.graph.find_nodes(op="get_attr") if node.target == path]
    if readers:
        module, _, name = path.rpartition(".")
        value = getattr(gm.get_submodule(module), name)
        copied = add_buffer(gm, identifier(path), value.detach().clone())
        for node in readers:
            node.target = copied


def identifier(name: str) -> str:
    """Return a name with everything that cannot stand in an attribute path replaced by an underscore."""
    return re.sub(r"\W", "_", name)


def _exists(gm: fx.GraphModule, path: str) -> bool:
    *rooms, name = path.split(".")
    module: object = gm
    for room in rooms:
        module = getattr(module, room, None)
    return hasattr(module, name) or hasattr(nn.Module(), name)
