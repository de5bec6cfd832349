"""Names of tensors, for people: the user's layer and what it computes."""

from torch import fx

from fxquant.graph.annotations import layer_of
from fxquant.graph.values import op_of

_SUFFIXES = ("", "_q", "_qdq", "_scale")  # names that an exported file derives from a tensor's


def tensor_names(gm: fx.GraphModule) -> dict[fx.Node, str]:
    """Return a unique name for the tensor each node gives.

    An input or constant keeps its name, a module's output is named after the module ("layer1.0.conv1"),
    another op's output after the user's layer and the op ("layer1.0.add"); a number makes repeats unique.
    """
    names: dict[fx.Node, str] = {}
    taken: set[str] = set()
    for node in gm.graph.nodes:
        base = _base_name(gm, node)
        name, count = base, 1
        while taken & {f"{name}{suffix}" for suffix in _SUFFIXES}:
            name, count = f"{base}_{count}", count + 1
        taken |= {f"{name}{suffix}" for suffix in _SUFFIXES}
        names[node] = name
    return names


def _base_name(gm: fx.GraphModule, node: fx.Node) -> str:
    if node.op in ("placeholder", "get_attr", "call_module"):
        return str(node.target)
    op = op_of(gm, node)
    what = op.name if op else node.name
    return f"{layer_of(node)}.{what}".lstrip(".")
