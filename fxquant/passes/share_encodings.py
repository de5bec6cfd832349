"""ShareEncodings: put tensors that must lie on one grid into one group.

Before::

    pool = MaxPool2d[pool](relu)  {relu: uint8, -> uint8}

After::

    the same, relu and pool in group "relu"
"""

from dataclasses import dataclass, replace

from torch import fx

from fxquant.graph import Report
from fxquant.graph.values import activations_of, is_constant, op_of, operand_of
from fxquant.ops import OutputRange
from fxquant.passes.assignment import assign, assignment_of
from fxquant.passes.base import Changes, Pass
from fxquant.quantization import QuantizationSpec
from fxquant.targets import Placement

GROUP = "encoding_group"  # node.meta: name of the group's first node


@dataclass(frozen=True)
class ShareEncodings(Pass):
    """Group tensors that must lie on one grid: across ops that copy values, and across concatenations.

    Where a kernel wants real zero in the middle of an operand's grid, that of the whole group has it there.
    """

    name = "share-encodings"
    changes = Changes.NOTHING
    after = ("assign-specs", "assign-outputs", "assign-residual-branches", "legalize-outputs")

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        groups = _Groups(gm)
        for node in gm.graph.nodes:
            op, assignment = op_of(gm, node), assignment_of(node)
            if op is None or assignment is None:
                continue
            if assignment.rule.placement is not Placement.COPY and not assignment.rule.shares_range:
                continue
            values = [value for value in node.all_input_nodes if value.name in assignment.inputs]
            values = values if assignment.rule.shares_range else activations_of(gm, node, op)
            if op.may_take_apart and any(op_of(gm, v) is None and not is_constant(v) for v in values):
                continue
            if op.output is OutputRange.LIKE_INPUT:
                groups.join([*values, node])
            elif assignment.rule.shares_range and assignment.inputs:
                groups.join([*values, node])
                self.applied(gm, node, report, "its inputs and output share one encoding")
        joint = {groups.root(node) for node in gm.graph.nodes if _is_joint(node)}
        centred = self._centred(gm, report, groups)
        for node in gm.graph.nodes:
            node.meta[GROUP] = groups.root(node).name
            _fix_grids(gm, node, groups, joint, centred)
        return False

    def _centred(self, gm: fx.GraphModule, report: Report, groups: "_Groups") -> set[fx.Node]:
        """Return the roots of groups that a kernel reads with real zero in the middle of their grid.

        A range that an op fixes is kept as it is.
        """
        found: set[fx.Node] = set()
        for node in gm.graph.nodes:
            op, assignment = op_of(gm, node), assignment_of(node)
            if op is None or assignment is None or not assignment.rule.operands:
                continue
            for operand in op.activations:
                value, wanted = operand_of(node, operand), assignment.rule.operands.get(operand.name)
                if not isinstance(value, fx.Node) or wanted is None or not wanted.symmetric:
                    continue
                source = op_of(gm, groups.root(value))
                is_fixed = source is not None and source.fixed_range is not None
                if not is_constant(value) and not is_fixed and not _is_converted(node, value, wanted):
                    found.add(groups.root(value))
                    self.applied(gm, node, report, f"real zero is the middle of the grid of '{value.name}'")
        return found


class _Groups:
    """Disjoint sets of nodes; the root of a set is its first node in graph order."""

    def __init__(self, gm: fx.GraphModule) -> None:
        self._parent: dict[fx.Node, fx.Node] = {}
        self._order = {node: index for index, node in enumerate(gm.graph.nodes)}

    def root(self, node: fx.Node) -> fx.Node:
        while node in self._parent:
            node = self._parent[node]
        return node

    def join(self, nodes: list[fx.Node]) -> None:
        first, *rest = sorted({self.root(node) for node in nodes}, key=lambda node: self._order[node])
        self._parent.update(dict.fromkeys(rest, first))


def _is_converted(node: fx.Node, value: fx.Node, wanted: QuantizationSpec) -> bool:
    """Whether a kernel reads an operand in another type than the tensor has."""
    made, read = assignment_of(value), assignment_of(node)
    assert read is not None
    has = [made.output] if made is not None and made.output is not None else list(read.inputs.values())
    return any((spec.bitwidth, spec.signed) != (wanted.bitwidth, wanted.signed) for spec in has)


def _is_joint(node: fx.Node) -> bool:
    assignment = assignment_of(node)
    return assignment is not None and assignment.rule.shares_range and bool(assignment.inputs)


def _fix_grids(
    gm: fx.GraphModule, node: fx.Node, groups: _Groups, joint: set[fx.Node], centred: set[fx.Node]
) -> None:
    """Give each tensor around a node the fixed range of its group's first op, if it has one.

    A grid that a concatenation shares has to cover tensors of several ops, so it is measured. A grid that a
    kernel wants centred is so for all that reads it.
    """
    assignment = assignment_of(node)
    if assignment is None:
        return

    def adjusted(spec: QuantizationSpec, value: fx.Node) -> QuantizationSpec:
        root = groups.root(value)
        op = op_of(gm, root)
        fixed = None if op is None or root in joint else op.fixed_range
        return replace(spec, fixed_range=fixed, symmetric=spec.symmetric or (root in centred))

    values = {value.name: value for value in node.all_input_nodes}
    inputs = {name: adjusted(spec, values[name]) for name, spec in assignment.inputs.items()}
    output = None if assignment.output is None else adjusted(assignment.output, node)
    assign(node, replace(assignment, inputs=inputs, output=output))
