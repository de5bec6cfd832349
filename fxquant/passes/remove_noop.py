"""RemoveNoop: remove ops that return their input unchanged in evaluation.

Before::

    dropout = Dropout[drop](x)
    fc = Linear[fc](dropout)

After::

    fc = Linear[fc](x)
"""

from dataclasses import dataclass

import torch
from torch import fx

from fxquant.graph import Report
from fxquant.graph.aliases import Aliases
from fxquant.graph.annotations import result_of
from fxquant.graph.edit import bypass
from fxquant.graph.values import op_of
from fxquant.ops import Op
from fxquant.passes.base import Changes, Pass


@dataclass(frozen=True)
class RemoveNoop(Pass):
    """Remove identities, evaluation-mode dropout, slices of everything, casts of float32 to float32."""

    name = "remove-noop"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        aliases = Aliases(gm)
        for node in list(gm.graph.nodes):
            op = op_of(gm, node)
            if op is None or not node.args or not (op.is_noop_in_eval or _gives_input(node, op)):
                continue
            if aliases.is_written(node):
                self.declined(
                    gm, node, report, "it may be a copy, and what it gives or reads is written in place"
                )
                continue
            value = node.args[0]
            is_active = op.is_noop_in_eval and (node.kwargs.get("training") is True or True in node.args[1:])
            if not isinstance(value, fx.Node) or is_active:
                self.declined(gm, node, report, "it is active in evaluation too")
                continue
            self.applied(gm, node, report, "returns its input unchanged in evaluation")
            bypass(gm, node, value)
            has_changed = True
        return has_changed


def _gives_input(node: fx.Node, op: Op) -> bool:
    """Whether a call picks everything there is, or casts a float32 tensor to float32 where it is."""
    if op.may_take_apart:
        index = node.args[1] if len(node.args) == 2 else None
        parts = index if isinstance(index, tuple | list) else (index,)
        return bool(parts) and all(part is Ellipsis or part in _WHOLE for part in parts)
    if not op.is_cast or not isinstance(node.args[0], fx.Node):
        return False
    given, made = result_of(node.args[0]), result_of(node)
    is_float = given is not None and made is not None and given.dtype is made.dtype is torch.float32
    options = (*node.args[1:], *node.kwargs.values())
    return is_float and all(isinstance(option, torch.dtype) for option in options)


_WHOLE = (slice(None), slice(0, None))
