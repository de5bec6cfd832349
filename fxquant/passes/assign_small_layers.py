"""AssignSmallLayers: leave the layers float that are too small for the target's integer kernels.

Before::

    fc = Linear[fc](x)  {x: int8, weight: int8 axis 0}      # 512 inputs, 10 outputs

After::

    fc = Linear[fc](x)
"""

from dataclasses import dataclass

import torch
from torch import fx

from fxquant.graph import Report
from fxquant.graph.annotations import result_of
from fxquant.graph.values import attribute, is_constant, op_of, operand_of
from fxquant.ops import Op, Operand
from fxquant.passes.assignment import Assignment, assign, assignment_of
from fxquant.passes.base import Changes, Pass
from fxquant.quantization import QuantizationSpec
from fxquant.targets import LayerSizes, get_target

_UNKNOWN = "some of its sizes are not known, so it counts as large: prepare with example_inputs"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class AssignSmallLayers(Pass):
    """Leave layers float that are too small for the target's integer kernels (P12, P13, P14).

    Attributes:
        target: Name of the target, whose rules hold the limits.
    """

    target: str = "tensorrt"

    name = "assign-small-layers"
    changes = Changes.NOTHING
    after = ("assign-specs",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        target = get_target(self.target)
        for node in gm.graph.nodes:
            assignment, op = assignment_of(node), op_of(gm, node)
            if assignment is None or op is None or assignment.rule.limit is None:
                continue
            sizes = _sizes(gm, node, op)
            reason = assignment.rule.limit(sizes, _weight(assignment, target.weight))
            if reason:
                assign(node, None)
                self.declined(gm, node, report, reason)
            elif None in (sizes.depth, sizes.columns):
                self.applied(gm, node, report, _UNKNOWN)
        return False


def _weight(assignment: Assignment, default: QuantizationSpec) -> QuantizationSpec:
    return assignment.weight or assignment.rule.weight or default


def _sizes(gm: fx.GraphModule, node: fx.Node, op: Op) -> LayerSizes:
    if op.weight is not None:
        return _layer(gm, node, op, op.weight)
    left, right = (operand_of(node, operand) for operand in op.activations[:2])
    first, second = _shape(gm, left), _shape(gm, right)
    return LayerSizes(
        rows=_rows(left, first),
        depth=first[-1] if first else None,
        columns=None if second is None else second[-1] if len(second) > 1 else 1,
    )


def _layer(gm: fx.GraphModule, node: fx.Node, op: Op, weight: Operand) -> LayerSizes:
    """Return the sizes of a layer with a weight: [out, in / groups, *kernel], or [in, out / groups, ...]."""
    module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
    held = operand_of(node, weight) if module is None else getattr(module, weight.name)
    shape = tuple(held.shape) if isinstance(held, torch.Tensor) else _shape(gm, held)
    if shape is None or weight.channel_axis is None or len(shape) < 2:
        return LayerSizes()
    source = operand_of(node, op.activations[0])
    groups = node.kwargs.get("groups", 1) if module is None else getattr(module, "groups", 1)
    return LayerSizes(
        rows=_rows(source, _shape(gm, source)) if len(shape) == 2 else None,
        depth=shape[1 - weight.channel_axis],
        columns=shape[weight.channel_axis],
        kernel=shape[2:],
        groups=groups if isinstance(groups, int) else 1,
        is_first=isinstance(source, fx.Node) and source.op == "placeholder",
    )


def _rows(value: object, shape: Shape | None) -> int | None:
    """Return the rows of a left matrix; None for those of an activation of rank 2, which is a batch."""
    if shape is None or not isinstance(value, fx.Node):
        return None
    return shape[-2] if len(shape) > 2 or (is_constant(value) and len(shape) == 2) else None


def _shape(gm: fx.GraphModule, value: object) -> Shape | None:
    if not isinstance(value, fx.Node):
        return None
    held = attribute(gm, value) if is_constant(value) else None
    if isinstance(held, torch.Tensor):
        return tuple(held.shape)
    result = result_of(value)
    return None if result is None else result.shape
