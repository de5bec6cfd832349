"""Names of tensors, for people: the user's layer and what it computes."""

from collections.abc import Callable

from torch import fx

from fxquant.graph.annotations import layer_of
from fxquant.graph.capture_notes import capture_notes
from fxquant.graph.values import op_of

LEAF_ROOT = "layer"  # where a graph holds a model, or a layer, that is one call


def free_name(base: str, is_taken: Callable[[str], bool]) -> str:
    """Return a name that is not taken: the base, or the base with the first number that makes it free."""
    name, count = base, 1
    while is_taken(name):
        name, count = f"{base}_{count}", count + 1
    return name


_SUFFIXES = ("", "_q", "_qdq", "_scale")  # names that an exported file derives from a tensor's


def tensor_names(gm: fx.GraphModule) -> dict[fx.Node, str]:
    """Return a unique name for the tensor each node gives.

    An input or constant keeps its name, a module's output is named after the module ("layer1.0.conv1"),
    another op's output after the user's layer and the op ("layer1.0.add"); a number makes repeats unique. Of
    inputs x and x_q, both keep their names, and the codes of x have another one in the file.
    """
    names = {node: _base_name(gm, node) for node in gm.graph.find_nodes(op="placeholder")}
    taken = {derived for name in names.values() for derived in _derived(name)}
    for node in [node for node in gm.graph.nodes if node not in names]:
        name = free_name(_base_name(gm, node), lambda name: bool(taken & _derived(name)))
        taken.update(_derived(name))
        names[node] = name
    return names


def node_name(gm: fx.GraphModule, node: fx.Node) -> str:
    """Return a node's name, unique over the graphs of a model."""
    notes = capture_notes(gm)
    return f"{notes.path}.{node.name}" if notes and notes.path else node.name


def module_name(gm: fx.GraphModule, node: fx.Node) -> str:
    """Return the dotted path, in the user's model, of the module that a node calls.

    A graph of its own that is one call holds the layer under a name that is not the user's.
    """
    notes = capture_notes(gm)
    path = notes.path if notes else ""
    if path and node.target == LEAF_ROOT:
        return path
    return f"{path}.{node.target}".lstrip(".")


def _derived(name: str) -> set[str]:
    return {f"{name}{suffix}" for suffix in _SUFFIXES}


def _base_name(gm: fx.GraphModule, node: fx.Node) -> str:
    if node.op in ("placeholder", "get_attr", "call_module"):
        return module_name(gm, node)
    op = op_of(gm, node)
    what = op.name if op else node.name
    return f"{layer_of(node)}.{what}".lstrip(".")
