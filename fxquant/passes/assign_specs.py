"""AssignSpecs: decide, op by op from the target's table, which operands are to be read quantized.

Before::

    conv = Conv2d[conv](x)

After::

    conv = Conv2d[conv](x)  {x: int8, weight: int8 axis 0}
"""

from dataclasses import dataclass, replace

import torch
from torch import fx

from fxquant.graph import Report
from fxquant.graph.annotations import FLOAT_WHY
from fxquant.graph.values import (
    activations_of,
    attribute,
    is_call,
    is_constant,
    op_of,
    operand_of,
    returns,
)
from fxquant.nn import quantized_class_of
from fxquant.ops import Op, Operand, Returns
from fxquant.passes.assignment import Assignment, activation_spec, assign, placement_of
from fxquant.passes.base import Changes, Pass
from fxquant.quantization import QuantizationSpec
from fxquant.targets import Placement, Rule, Target, get_target


@dataclass(frozen=True)
class AssignSpecs(Pass):
    """Decide which operands of each op are to be read quantized, from the target's table.

    Attributes:
        target: Name of the target.
    """

    target: str = "tensorrt"

    name = "assign-specs"
    changes = Changes.NOTHING
    after = ("fold-batch-norm", "decompose-attention")

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        target = get_target(self.target)
        for node in gm.graph.nodes:
            assign(node, None)
            if not is_call(node) or returns(gm, node) is Returns.VALUE:
                continue
            op = op_of(gm, node)
            if op is None:
                self.declined(gm, node, report, "fxquant's op table has no row for it")
                continue
            rule = target.rule(op.name)
            reason = _refusal(gm, node, op, rule)
            if reason:
                self.declined(gm, node, report, reason)
            elif rule.placement is Placement.INTEGER:
                assign(node, _integer(gm, node, op, rule, target))
                self.applied(gm, node, report, rule.why)
            elif rule.placement is Placement.COPY or _fuses(node, rule):
                assign(node, Assignment(rule=rule))
                self.applied(gm, node, report, rule.why)
            elif rule.placement is Placement.EPILOGUE:
                self.declined(gm, node, report, "there is no integer op before it to fuse with")
            else:
                self.declined(gm, node, report, rule.why)
        return False


def _integer(gm: fx.GraphModule, node: fx.Node, op: Op, rule: Rule, target: Target) -> Assignment:
    operands = {
        value: operand
        for operand in op.activations
        if isinstance(value := operand_of(node, operand), fx.Node)
    }
    wanted = {
        value.name: _operand_spec(gm, value, operands.get(value), rule, target)
        for value in activations_of(gm, node, op)
    }
    inputs = {name: spec for name, spec in wanted.items() if spec is not None}
    if op.weight is None:
        return Assignment(rule=rule, inputs=inputs)
    weight = operand_of(node, op.weight)
    spec = _weight_spec(rule, target, op.weight)
    if rule.shares_range and target.activation is not None:
        spec = target.activation  # on the grid of the output
    if not isinstance(weight, fx.Node):  # the module form holds it
        return Assignment(rule=rule, inputs=inputs, weight=spec)
    if target.activation is not None:
        inputs[weight.name] = spec if is_constant(weight) else _as_activation(spec)
    return Assignment(rule=rule, inputs=inputs)


def _as_activation(weight: QuantizationSpec) -> QuantizationSpec:
    """Return the spec of a weight that is computed: one range, in a type that tensors are quantized to."""
    plain = replace(weight, channel_axis=None, narrow=False, block_size=None, decompressed_bits=None)
    return replace(plain, bitwidth=max(8, weight.bitwidth))


def _operand_spec(
    gm: fx.GraphModule, value: fx.Node, operand: Operand | None, rule: Rule, target: Target
) -> QuantizationSpec | None:
    """Return the spec of a tensor that is read as an activation; a constant matrix is a weight."""
    has_channels = operand is not None and operand.channel_axis is not None
    if has_channels and is_constant(value) and _rank(gm, value) == 2:
        return _weight_spec(rule, target, operand)
    own = None if operand is None else rule.operands.get(operand.name)
    return own or activation_spec(gm, value, target)


def _weight_spec(rule: Rule, target: Target, operand: Operand | None) -> QuantizationSpec:
    if rule.weight is not None or operand is None:
        return rule.weight or target.weight
    return replace(target.weight, channel_axis=operand.channel_axis)


def _refusal(gm: fx.GraphModule, node: fx.Node, op: Op, rule: Rule) -> str:
    """Return why an op of an integer rule stays float; empty if it does not."""
    if rule.placement is not Placement.INTEGER:
        return ""
    if FLOAT_WHY in node.meta:
        return str(node.meta[FLOAT_WHY])
    if node.op == "call_module" and op.weight is not None:
        module = gm.get_submodule(str(node.target))
        if quantized_class_of(type(module)) is None:
            return f"its class {type(module).__name__} has no quantized class"
    operands = activations_of(gm, node, op)
    constants = [value for value in operands if is_constant(value)]
    given = [operand_of(node, operand) for operand in op.activations]
    if any(_is_number(gm, value) for value in given):
        return "an operand is a number"
    if constants and not rule.allows_constants:
        return "an operand is a constant"
    if any(not _is_float(gm, value) for value in constants):
        return "an operand holds integers"
    return ""


def _fuses(node: fx.Node, rule: Rule) -> bool:
    """Whether an activation reads an integer op, maybe through another activation."""
    if rule.placement is not Placement.EPILOGUE or not node.all_input_nodes:
        return False
    return placement_of(node.all_input_nodes[0]) in (Placement.INTEGER, Placement.EPILOGUE)


def _is_number(gm: fx.GraphModule, value: object) -> bool:
    is_computed = isinstance(value, fx.Node) and returns(gm, value) is Returns.VALUE
    return is_computed or isinstance(value, int | float)


def _rank(gm: fx.GraphModule, constant: fx.Node) -> int:
    tensor = attribute(gm, constant)
    return tensor.dim() if isinstance(tensor, torch.Tensor) else 0


def _is_float(gm: fx.GraphModule, node: fx.Node) -> bool:
    tensor = attribute(gm, node)
    return isinstance(tensor, torch.Tensor) and tensor.is_floating_point()
