"""LegalizeInputs: keep an op quantized only where an integer layer gives what it reads.

Before::

    relu = ReLU[relu](conv)
    up = interpolate(relu, scale_factor=2.0)  {relu: int8}       # behind a convolution
    more = interpolate(x, scale_factor=2.0)  {x: int8}           # of an input of the model

After::

    relu = ReLU[relu](conv)
    up = interpolate(relu, scale_factor=2.0)  {relu: int8}
    more = interpolate(x, scale_factor=2.0)
"""

from dataclasses import dataclass

from torch import fx

from fxquant.graph import Report
from fxquant.passes.assignment import assign, assignment_of, placement_of
from fxquant.passes.base import Changes, Pass
from fxquant.targets import Placement


@dataclass(frozen=True)
class LegalizeInputs(Pass):
    """Keep ops that follow a layer quantized only where there is one, and inside the model (P19, P11)."""

    name = "legalize-inputs"
    changes = Changes.NOTHING
    after = ("assign-specs", "assign-small-layers")

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        for node in gm.graph.nodes:
            assignment = assignment_of(node)
            if assignment is None or not assignment.rule.follows_layer or not assignment.inputs:
                continue
            if any(user.op == "output" for user in node.users):
                assign(node, None)
                self.declined(gm, node, report, "P11: its output is the model's output")
            elif not _is_behind_layer(node.all_input_nodes[0]):
                assign(node, None)
                self.declined(gm, node, report, "no integer layer gives what it reads")
            else:
                self.applied(gm, node, report, assignment.rule.why)
        return False


def _is_behind_layer(value: fx.Node) -> bool:
    """Whether an integer layer gives a value, through activations that nothing else reads."""
    while len(value.users) == 1 and placement_of(value) is Placement.EPILOGUE:
        value = value.all_input_nodes[0]
    assignment = assignment_of(value)
    return len(value.users) == 1 and assignment is not None and assignment.rule.fuses_residual
