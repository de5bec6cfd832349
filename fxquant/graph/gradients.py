"""detach_at_borders: gradients stop in a graph where the forward had switched them off."""

from torch import fx

from fxquant.graph.annotations import LAYER, RESULT, STOPPED, layer_of, result_of


def detach_at_borders(graph: fx.Graph) -> None:
    """Detach each float tensor that was computed without gradients where something with gradients reads it.

    What depends on no input and no parameter has no gradient anyway.
    """
    differentiable: set[fx.Node] = set()
    for node in list(graph.nodes):
        result = result_of(node)
        is_float = result is not None and result.dtype.is_floating_point
        is_source = node.op in ("placeholder", "get_attr", "call_module")
        if is_float and (is_source or any(source in differentiable for source in node.all_input_nodes)):
            differentiable.add(node)
        elif result is None and any(source in differentiable for source in node.all_input_nodes):
            differentiable.add(node)  # a tuple
        readers = [user for user in node.users if STOPPED not in user.meta]
        if STOPPED not in node.meta or node not in differentiable or not is_float or not readers:
            continue
        if node.op in ("placeholder", "get_attr"):
            continue
        with graph.inserting_after(node):
            detached = graph.call_method("detach", (node,))
        detached.meta.update({LAYER: layer_of(node), RESULT: result})
        for reader in readers:
            reader.replace_input_with(node, detached)
