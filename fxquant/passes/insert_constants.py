"""InsertConstants: turn numbers that tensors are combined with into constant tensors, which can be quantized.

Before::

    mul = mul(x, 0.125)

After::

    mul_other = .constants.mul_other
    mul = mul(x, mul_other)
"""

from dataclasses import dataclass

import torch
from torch import fx

from fxquant.graph import Report
from fxquant.graph.annotations import LAYER, layer_of, result_of
from fxquant.graph.edit import add_buffer
from fxquant.graph.values import op_of, operand_of
from fxquant.ops import Operand
from fxquant.passes.base import Changes, Pass
from fxquant.targets import Placement, get_target


@dataclass(frozen=True)
class InsertConstants(Pass):
    """Turn numbers that integer ops combine tensors with into constant tensors.

    Attributes:
        target: Name of the target.
    """

    target: str = "tensorrt"

    name = "insert-constants"
    changes = Changes.STRUCTURE
    after = ("canonicalize", "decompose-attention", "decompose-activations")

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        target, has_changed = get_target(self.target), False
        for node in list(gm.graph.nodes):
            op, result = op_of(gm, node), result_of(node)
            if op is None or target.rule(op.name).placement is not Placement.INTEGER:
                continue
            if node.op not in ("call_function", "call_method") or result is None:
                continue
            given = {operand: operand_of(node, operand) for operand in op.activations}
            numbers = [(o, value) for o, value in given.items() if isinstance(value, int | float)]
            tensors = [value for value in given.values() if isinstance(value, fx.Node)]
            if len(numbers) != 1 or len(tensors) != 1 or not result.dtype.is_floating_point:
                continue
            ((operand, number),) = numbers
            value = torch.tensor(float(number), dtype=result.dtype, device=_device(gm))
            buffer = add_buffer(gm, f"{node.name}_{operand.name}", value)
            with gm.graph.inserting_before(node):
                constant = gm.graph.get_attr(buffer)
            constant.meta[LAYER] = layer_of(node)
            _give(node, operand, constant)
            self.applied(gm, node, report, f"{number} is a constant now")
            has_changed = True
        return has_changed


def _give(call: fx.Node, operand: Operand, value: fx.Node) -> None:
    """Let a call take a tensor for an operand that it is given."""
    if operand.index < len(call.args):
        call.update_arg(operand.index, value)
    else:
        name = next(name for name in (operand.name, *operand.aliases) if name in call.kwargs)
        call.update_kwarg(name, value)


def _device(gm: fx.GraphModule) -> torch.device:
    """Return where the model is; the CPU for one without parameters."""
    return next((parameter.device for parameter in gm.parameters()), torch.device("cpu"))
