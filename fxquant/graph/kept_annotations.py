"""How notes on nodes outlive pickling, which drops node.meta."""

from torch import fx

from fxquant.graph.annotations import LAYER, TENSOR
from fxquant.graph.capture_notes import graphs_of

_KEPT = (LAYER, TENSOR)

Annotations = tuple[tuple[str, dict[str, str]], ...]


def save_annotations(gm: fx.GraphModule) -> Annotations:
    """Return each node's name and notes, in graph order, those of all graphs of a model."""
    return tuple(
        (node.name, {key: node.meta[key] for key in _KEPT if key in node.meta}) for node in _nodes(gm)
    )


def restore_annotations(gm: fx.GraphModule, saved: Annotations) -> None:
    """Write saved notes back to the nodes, by position, where the graph has lost them.

    A pickled GraphModule is traced anew from its code: same nodes in the same order, without meta.
    """
    nodes = _nodes(gm)
    if len(nodes) != len(saved) or any(LAYER in node.meta for node in nodes):
        return
    for node, (_, notes) in zip(nodes, saved, strict=True):
        node.meta.update(notes)


def _nodes(gm: fx.GraphModule) -> list[fx.Node]:
    return [node for graph in graphs_of(gm) for node in graph.graph.nodes]
