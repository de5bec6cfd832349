"""SwapArithmetic: swap calls between quantizers for calls computed as a runtime's integer kernels do.

Before::

    conv = QuantizedConv2d[conv](x_quantizer)  {weight: symmetric [-127, 127]}
    relu = ReLU[relu](conv)
    relu_quantizer = FrozenQuantizeDequantize[quantizers.relu](relu)  asymmetric [0, 255]

After::

    conv = QuantizedConv2d[conv](x_quantizer)  {weight: symmetric [-127, 127]}  as a kernel
    relu = ReLU[relu](conv)
    relu_quantizer = FrozenQuantizeDequantize[quantizers.relu](relu)  asymmetric [0, 255]
"""

from dataclasses import dataclass

from torch import fx

from fxquant.arithmetic import KernelCall, get_arithmetic
from fxquant.graph import Report
from fxquant.graph.kernel_calls import swap_call
from fxquant.graph.values import is_quantizer, op_of, returns
from fxquant.ops import OutputRange, Returns
from fxquant.passes.base import Changes, Pass
from fxquant.passes.kernel_unit import unit_of

_MOVES = (OutputRange.LIKE_INPUT, OutputRange.FLOAT)


@dataclass(frozen=True)
class SwapArithmetic(Pass):
    """Swap calls between quantizers for calls computed as a runtime's integer kernels do.

    Attributes:
        arithmetic: Name of the arithmetic.
    """

    arithmetic: str = "integer"

    name = "swap-arithmetic"
    changes = Changes.BOTH
    after = ("freeze-encodings",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        arithmetic = get_arithmetic(self.arithmetic)
        has_changed = False
        for node in [node for node in gm.graph.nodes if _is_candidate(gm, node)]:
            op = op_of(gm, node)
            assert op is not None
            rule = arithmetic.rule(op.name)
            if rule is None:
                self.declined(gm, node, report, f"no {arithmetic.name} formula for {op.name}")
            elif rule.formula is not None:
                unit = unit_of(gm, node, op, rule, arithmetic)
                if isinstance(unit, str):
                    self.declined(gm, node, report, unit)
                    continue
                self.applied(gm, node, report, rule.why)
                swap_call(gm, node, op.name, rule.formula, unit.inputs, unit.output)
                has_changed = True
        return has_changed


def _is_candidate(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node computes a tensor beside a quantizer, and not in a kernel's arithmetic yet."""
    op = op_of(gm, node)
    if op is None or op.output in _MOVES or returns(gm, node) is not Returns.TENSOR:
        return False
    if node.op == "call_module" and isinstance(gm.get_submodule(str(node.target)), KernelCall):
        return False
    return any(is_quantizer(gm, neighbour) for neighbour in (*node.all_input_nodes, *node.users))
