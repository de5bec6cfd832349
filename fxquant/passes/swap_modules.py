"""SwapModules: swap the layers that run quantized for their quantized modules.

Before::

    conv = Conv2d[conv](x_quantizer)  {x: int8, weight: int8 axis 0}

After::

    conv = QuantizedConv2d[conv](x_quantizer)  {weight: symmetric [-127, 127]}
"""

from dataclasses import dataclass

from torch import fx

from fxquant.graph import Report
from fxquant.graph.edit import set_module
from fxquant.nn import QuantizationMixin, quantized_class_of
from fxquant.passes.assignment import assignment_of
from fxquant.passes.base import Changes, Pass
from fxquant.quantization.of_spec import quantizer_of


@dataclass(frozen=True)
class SwapModules(Pass):
    """Swap layers that run quantized for their quantized modules; weight quantizers move in.

    Attributes:
        everything: Whether to swap every layer that has a quantized class, assigned or not.
    """

    everything: bool = False

    name = "swap-modules"
    changes = Changes.STRUCTURE
    after = ("insert-quantizers",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        swapped: dict[int, QuantizationMixin] = {}
        for node in gm.graph.nodes:
            assignment = assignment_of(node)
            is_meant = self.everything or (assignment is not None and assignment.is_quantized)
            if node.op != "call_module" or not is_meant:
                continue
            module = gm.get_submodule(str(node.target))
            if isinstance(module, QuantizationMixin) or quantized_class_of(type(module)) is None:
                continue
            if id(module) not in swapped:
                quantized = QuantizationMixin.from_module(module)
                weight = quantized._parameters.get("weight")
                if assignment is not None and assignment.weight is not None and weight is not None:
                    quantizer = quantizer_of(assignment.weight, tuple(weight.shape))
                    quantized.param_quantizers["weight"] = quantizer.to(weight.device)
                swapped[id(module)] = quantized
                self.applied(gm, node, report, f"now a {type(quantized).__name__}")
            set_module(gm, str(node.target), swapped[id(module)])
        return bool(swapped)
