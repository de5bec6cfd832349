"""verify_graph: the rules that every pass may rely on and has to keep."""

from torch import fx

from fxquant.errors import GraphError
from fxquant.graph.annotations import layer_of


def verify_graph(gm: fx.GraphModule) -> None:
    """Check that a graph is well formed.

    fx's own lint passes; there is exactly one output; every call of a module and every constant finds what
    it names.

    Raises:
        GraphError: If it is not; it names the node's layer.
    """
    try:
        gm.graph.lint()
    except RuntimeError as error:
        raise GraphError(f"The graph is not well formed: {error}.") from error
    if len(gm.graph.find_nodes(op="output")) != 1:
        raise GraphError("A graph has exactly one output node.")
    modules = dict(gm.named_modules(remove_duplicate=False))
    for node in gm.graph.nodes:
        path = str(node.target)
        owner = path if node.op == "call_module" else path.rpartition(".")[0]
        if node.op in ("call_module", "get_attr") and owner not in modules:
            raise GraphError(
                f"Node '{node.name}' names '{path}', which does not exist.", layer=layer_of(node)
            )
        if node.op == "get_attr" and not hasattr(modules[owner], path.rpartition(".")[2]):
            raise GraphError(
                f"Node '{node.name}' names '{path}', which does not exist.", layer=layer_of(node)
            )
