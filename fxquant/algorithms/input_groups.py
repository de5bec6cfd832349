"""input_groups: layers by the tensor that they read, to which a division of it has to be agreed on."""

from collections.abc import Callable

from torch import fx

from fxquant.algorithms.context import Context
from fxquant.algorithms.layers import Layer, layers_of
from fxquant.graph import graphs_of
from fxquant.graph.annotations import layer_of


def input_groups(
    gm: fx.GraphModule, context: Context, why_not: Callable[[Layer], str | None]
) -> list[list[Layer]]:
    """Return the layers whose input channels can be scaled, by the node that they read; decline the others.

    Args:
        gm: The prepared model.
        context: Where those left out are declined.
        why_not: Returns why a layer is none for the algorithm; None where it is one.
    """
    layers, declined = layers_of(gm, gm.graph.nodes)
    for node, reason in declined.items():
        context.declined(layer_of(node), reason)
    for graph in graphs_of(gm):
        if graph is not gm:
            found, others = layers_of(graph, graph.graph.nodes)
            for node in (*(layer.node for layer in found), *others):
                context.declined(layer_of(node), "it lies in a layer that stays whole")
    groups: dict[fx.Node, list[Layer]] = {}
    for layer in layers:
        why = _why_fixed(layer) or why_not(layer)
        if why is None:
            groups.setdefault(layer.input, []).append(layer)
        else:
            context.declined(layer.path, why)
    return list(groups.values())


def _why_fixed(layer: Layer) -> str | None:
    if getattr(layer.module, "groups", 1) != 1:
        return "its channels are in groups"
    if not layer.quantizer.is_overwrite_allowed():
        return "the range of its weight is given, or its weight was rounded before"
    return None
