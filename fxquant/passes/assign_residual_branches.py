"""AssignResidualBranches: leave the branch of a residual add that fuses with it unquantized (P04, P05).

Before::

    conv2 = Conv2d[conv2](relu)
    add = add(conv2, x)  {conv2: int8, x: int8}

After::

    conv2 = Conv2d[conv2](relu)
    add = add(conv2, x)  {x: int8}
"""

from dataclasses import dataclass, replace

from torch import fx

from fxquant.graph import Report
from fxquant.passes.assignment import assign, assignment_of, placement_of
from fxquant.passes.base import Changes, Pass
from fxquant.targets import OutputRule, Placement


@dataclass(frozen=True)
class AssignResidualBranches(Pass):
    """Leave the convolution branch that fuses with a residual add unquantized.

    An add without such a branch stays what it is: an elementwise op that reads and hands out integers.
    """

    name = "assign-residual-branches"
    changes = Changes.NOTHING
    after = ("assign-specs",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        order = {node: index for index, node in enumerate(gm.graph.nodes)}
        for node in gm.graph.nodes:
            assignment = assignment_of(node)
            if assignment is None or not assignment.rule.is_residual or not assignment.inputs:
                continue
            backed = [value for value in node.all_input_nodes if _is_backed(value)]
            if not backed or len(node.all_input_nodes) < 2 or assignment.rule.output is OutputRule.NEVER:
                continue
            fused = max(backed, key=lambda value: _depth(value, node, order))
            inputs = {name: spec for name, spec in assignment.inputs.items() if name != fused.name}
            # the convolution's kernel can hand out float
            rule = replace(assignment.rule, output=OutputRule.NEVER)
            assign(node, replace(assignment, rule=rule, inputs=inputs))
            self.applied(gm, node, report, f"P04: '{fused.name}' fuses with it and stays float")
        return False


def _is_backed(value: fx.Node) -> bool:
    """Whether a fusing weighted op gives a value, through activations at most, and nothing else reads it."""
    while len(value.users) == 1 and placement_of(value) is Placement.EPILOGUE:
        value = value.all_input_nodes[0]
    assignment = assignment_of(value)
    return len(value.users) == 1 and assignment is not None and assignment.rule.fuses_residual


def _depth(value: fx.Node, add: fx.Node, order: dict[fx.Node, int]) -> int:
    """Return the length of the longest path from the branches' common ancestor to a value (P05)."""
    own, others = _ancestors(value), [other for other in add.all_input_nodes if other is not value]
    shared = own.intersection(*(_ancestors(other) for other in others))
    if not shared:
        return 0
    root = max(shared, key=lambda node: order[node])
    length = {root: 0}
    for node in sorted(own - {root}, key=lambda node: order[node]):
        reached = [length[operand] for operand in node.all_input_nodes if operand in length]
        if reached:
            length[node] = max(reached) + 1
    return length.get(value, 0)


def _ancestors(node: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current not in found:
            found.add(current)
            waiting.extend(current.all_input_nodes)
    return found
