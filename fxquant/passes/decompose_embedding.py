"""DecomposeEmbedding: write a layer that looks rows up as a lookup in a constant, which can share its grid.

Before::

    words = Embedding[words](ids)

After::

    words_weight = .words.weight
    embedding = embedding(ids, words_weight)
"""

from dataclasses import dataclass

from torch import fx, nn
from torch.fx.node import Argument
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.graph.annotations import LAYER, layer_of
from fxquant.passes.base import Changes, Pass


@dataclass(frozen=True)
class DecomposeEmbedding(Pass):
    """Write embedding layers as lookups in their tables."""

    name = "decompose-embedding"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for node in list(gm.graph.find_nodes(op="call_module")):
            layer = gm.get_submodule(str(node.target))
            if not isinstance(layer, nn.Embedding) or type(layer).forward is not nn.Embedding.forward:
                continue
            if layer.max_norm is not None:
                self.declined(gm, node, report, "it normalizes rows in its table as it looks them up")
                continue
            with gm.graph.inserting_before(node):
                table = gm.graph.get_attr(f"{node.target}.weight")
                table.meta[LAYER] = layer_of(node)
                lookup = gm.graph.call_function(
                    F.embedding, (*node.args, *node.kwargs.values(), table), _padding(layer)
                )
            lookup.meta.update(node.meta)
            node.replace_all_uses_with(lookup)
            gm.graph.erase_node(node)
            self.applied(gm, lookup, report, "written as a lookup in a constant")
            has_changed = True
        return has_changed


def _padding(layer: nn.Embedding) -> dict[str, Argument]:
    """Return the argument that keeps gradients from the row of the padding."""
    return {} if layer.padding_idx is None else {"padding_idx": layer.padding_idx}
