"""QuantizedAnyFunction: any function or tensor method as a quantized module."""

from fxquant.nn.mixin import QuantizationMixin
from fxquant.nn.standard import StandardForward
from fxquant.ops import op_of_module
from fxquant.ops.module_form import AnyFunction


@QuantizationMixin.implements(AnyFunction)
class QuantizedAnyFunction(StandardForward, AnyFunction):
    """A function or tensor method between quantizers: as many inputs as its row in the op table has."""

    def __quant_init__(self) -> None:
        op = op_of_module(self)
        self._hold_quantizers(1 if op is None else max(1, len(op.inputs)), 1)
