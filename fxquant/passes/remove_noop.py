"""RemoveNoop: remove ops that return their input unchanged in evaluation.

Before::

    dropout = Dropout[drop](x)
    fc = Linear[fc](dropout)

After::

    fc = Linear[fc](x)
"""

from dataclasses import dataclass

from torch import fx

from fxquant.graph import Report
from fxquant.graph.aliases import Aliases
from fxquant.graph.edit import bypass
from fxquant.graph.values import op_of
from fxquant.passes.base import Changes, Pass


@dataclass(frozen=True)
class RemoveNoop(Pass):
    """Remove identities and evaluation-mode dropout."""

    name = "remove-noop"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        aliases = Aliases(gm)
        for node in list(gm.graph.nodes):
            op = op_of(gm, node)
            if op is None or not op.is_noop_in_eval or not node.args:
                continue
            if aliases.is_written(node):
                self.declined(
                    gm, node, report, "it may be a copy, and what it gives or reads is written in place"
                )
                continue
            value = node.args[0]
            if not isinstance(value, fx.Node) or node.kwargs.get("training") is True or True in node.args[1:]:
                self.declined(gm, node, report, "it is active in evaluation too")
                continue
            self.applied(gm, node, report, "returns its input unchanged in evaluation")
            bypass(gm, node, value)
            has_changed = True
        return has_changed
