"""LegalizeOutputs: keep an op quantized only where what reads its output makes that legal and worth it.

Before::

    mul = mul(x, gate)  {x: int8, gate: int8}      # read by a quantized conv and by a float op
    cat = cat([y, z])  {copy}                      # read by quantized convs only

After::

    mul = mul(x, gate)  {x: int8, gate: int8, -> int8}
    cat = cat([y, z])  {y: int8, z: int8}
"""

from dataclasses import dataclass, replace
from enum import Enum

from torch import fx

from fxquant.graph import Report
from fxquant.graph.values import activations_of, op_of
from fxquant.passes.assignment import activation_spec, assign, assignment_of
from fxquant.passes.base import Changes, Pass
from fxquant.targets import OutputRule, Placement, Target, get_target


class _Demand(Enum):
    """How an output is read."""

    QUANTIZED = "quantized"
    FLOAT = "float"
    GRAPH_OUTPUT = "graph output"


@dataclass(frozen=True)
class LegalizeOutputs(Pass):
    """Keep ops without weights quantized only where what reads them allows it (P07, P09, P11).

    Attributes:
        target: Name of the target.
    """

    target: str = "tensorrt"

    name = "legalize-outputs"
    changes = Changes.NOTHING
    after = ("assign-specs", "assign-residual-branches")

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        target = get_target(self.target)
        for node in reversed(gm.graph.nodes):
            assignment = assignment_of(node)
            if assignment is None:
                continue
            if assignment.rule.shares_range:
                self._legalize_joint(gm, node, report, target)
            elif assignment.rule.output is OutputRule.WHEN_NEEDED and assignment.inputs:
                self._legalize_integer(gm, node, report, target)
        return False

    def _legalize_integer(self, gm: fx.GraphModule, node: fx.Node, report: Report, target: Target) -> None:
        assignment, demand = assignment_of(node), _demand(node)
        assert assignment is not None
        if _Demand.GRAPH_OUTPUT in demand:
            assign(node, None)
            self.declined(gm, node, report, "P11: its output is the model's output")
        elif _Demand.QUANTIZED not in demand:
            assign(node, None)
            self.declined(gm, node, report, "P07: it would have to hand out int8, which nothing here reads")
        elif _Demand.FLOAT in demand:
            assign(node, replace(assignment, output=activation_spec(gm, node, target)))
            self.applied(gm, node, report, "P07: it hands out int8 to float readers too")
        else:
            self.applied(gm, node, report, "P07: all that reads it is quantized")

    def _legalize_joint(self, gm: fx.GraphModule, node: fx.Node, report: Report, target: Target) -> None:
        assignment, op = assignment_of(node), op_of(gm, node)
        assert assignment is not None and op is not None
        if _demand(node) != {_Demand.QUANTIZED}:
            assign(node, None)
            self.declined(gm, node, report, "P09: not all that reads it is quantized")
            return
        values = activations_of(gm, node, op)
        specs = {value.name: activation_spec(gm, value, target) for value in values}
        inputs = {name: spec for name, spec in specs.items() if spec is not None}
        assign(node, replace(assignment, inputs=inputs))
        self.applied(gm, node, report, assignment.rule.why)


def _demand(node: fx.Node) -> set[_Demand]:
    """Return how the output of a node is read, through ops that copy values or fuse."""
    found: set[_Demand] = set()
    for user in node.users:
        assignment = assignment_of(user)
        if user.op == "output":
            found.add(_Demand.GRAPH_OUTPUT)
        elif assignment is None:
            found.add(_Demand.FLOAT)
        elif node.name in assignment.inputs:
            found.add(_Demand.QUANTIZED)
        elif assignment.rule.placement in (Placement.COPY, Placement.EPILOGUE):
            found |= _demand(user)
        else:
            found.add(_Demand.FLOAT)
    return found
