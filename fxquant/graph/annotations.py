"""What fxquant notes on nodes, and how the notes outlive pickling, which drops node.meta."""

from torch import fx

LAYER = "layer"  # dotted path of the user's layer that the node comes from
TENSOR = "tensor"  # name of the quantized tensor, on calls of quantizers
_KEPT = (LAYER, TENSOR)

Annotations = tuple[tuple[str, dict[str, str]], ...]


def save_annotations(gm: fx.GraphModule) -> Annotations:
    """Return each node's name and notes, in graph order."""
    return tuple(
        (node.name, {key: node.meta[key] for key in _KEPT if key in node.meta}) for node in gm.graph.nodes
    )


def restore_annotations(gm: fx.GraphModule, saved: Annotations) -> None:
    """Write saved notes back to the nodes, by position, where the graph has lost them.

    A pickled GraphModule is traced anew from its code: same nodes in the same order, without meta.
    """
    nodes = list(gm.graph.nodes)
    if len(nodes) != len(saved) or any(LAYER in node.meta for node in nodes):
        return
    for node, (_, notes) in zip(nodes, saved, strict=True):
        node.meta.update(notes)


def layer_of(node: fx.Node) -> str:
    """Return the dotted path of the user's layer of a node; empty for the model's own forward."""
    return str(node.meta.get(LAYER, ""))
