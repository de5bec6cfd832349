"""AssignOutputs: decide which outputs are quantized where an integer kernel hands out integers.

Before::

    conv = Conv2d[conv](x)  {x: uint8, weight: int8 axis 0}
    relu = ReLU[relu](conv)  {epilogue}
    flatten = flatten(relu, 1)  {copy}

After::

    conv = Conv2d[conv](x)  {x: uint8, weight: int8 axis 0}
    relu = ReLU[relu](conv)  {-> uint8}
    flatten = flatten(relu, 1)  {relu: uint8, -> uint8}
"""

from dataclasses import dataclass, replace

from torch import fx

from fxquant.graph import Report
from fxquant.graph.values import activations_of, op_of, returns
from fxquant.ops import Returns
from fxquant.passes.assignment import Assignment, activation_spec, assign, assignment_of, placement_of
from fxquant.passes.base import Changes, Pass
from fxquant.targets import OutputRule, Placement, get_target


@dataclass(frozen=True)
class AssignOutputs(Pass):
    """Quantize the output of each op whose kernel hands out integers, behind its fused activation.

    Ops that copy values follow: where they read a quantized tensor, they give one.

    Attributes:
        target: Name of the target.
    """

    target: str = "tensorrt"

    name = "assign-outputs"
    changes = Changes.NOTHING
    after = ("assign-specs",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        target = get_target(self.target)
        for node in gm.graph.nodes:
            assignment = assignment_of(node)
            if assignment is None:
                continue
            if assignment.rule.output is OutputRule.ALWAYS and assignment.inputs:
                end = _end_of_epilogue(node)
                if assignment.rule.is_float_at_graph_output and _feeds_output(end):
                    self.declined(gm, node, report, "its output is the model's output, which stays float")
                    continue
                held = assignment_of(end)
                assert held is not None
                assign(end, replace(held, output=activation_spec(gm, end, target)))
                self.applied(gm, end, report, "its kernel hands out integers")
            elif assignment.rule.placement is Placement.COPY:
                _follow(gm, node, assignment)
        return False


def _follow(gm: fx.GraphModule, node: fx.Node, assignment: Assignment) -> None:
    """Let a copying op read and give quantized tensors where what it reads is quantized."""
    op = op_of(gm, node)
    for value in activations_of(gm, node, op) if op else []:
        source = assignment_of(value)
        if source is not None and source.output is not None:
            inputs = {value.name: source.output} if returns(gm, value) is Returns.TENSOR else {}
            assign(node, replace(assignment, inputs=inputs, output=source.output))


def _end_of_epilogue(node: fx.Node) -> fx.Node:
    """Return the last op that fuses into a node: the node itself, or the activation that alone reads it."""
    users = list(node.users)
    while len(users) == 1 and placement_of(users[0]) is Placement.EPILOGUE:
        node, users = users[0], list(users[0].users)
    return node


def _feeds_output(node: fx.Node) -> bool:
    return any(user.op == "output" for user in node.users)
