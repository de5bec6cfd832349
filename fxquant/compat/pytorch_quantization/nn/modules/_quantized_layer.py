"""What the quantized layers have in common: torch's arguments, and descriptors beside them."""

import inspect
from typing import Any, ClassVar

from torch import nn

from fxquant.compat.pytorch_quantization.nn.modules._bridge import BridgedLayer
from fxquant.compat.pytorch_quantization.nn.modules._utils import (
    QuantInputMixin,
    QuantMixin,
    pop_quant_desc_in_kwargs,
)

_NOT_GIVEN = {"self", "mode"}  # mode: what nn.LSTM itself tells its base


class _Layer(nn.Module, BridgedLayer):
    """Knows which arguments are torch's, and shows them in the signature of each class."""

    _float_arguments: ClassVar[frozenset[str]] = frozenset()
    _descriptors: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        theirs = cls._float_parameters()
        cls._float_arguments = frozenset(parameter.name for parameter in theirs)
        if "__init__" in vars(cls):  # a user's class, with arguments of its own
            parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        else:
            ours = [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
                for name in cls._descriptors
            ]
            parameters = theirs + ours
        cls.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what inspect reads

    @classmethod
    def _float_parameters(cls) -> list[inspect.Parameter]:
        """Return the arguments of the layer of torch's that the class derives from, without ``self``."""
        for base in cls.__mro__:
            if base.__module__.startswith("torch.nn.modules.") and "__init__" in vars(base):
                parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
                if all(parameter.kind is not parameter.VAR_POSITIONAL for parameter in parameters):
                    return [parameter for parameter in parameters if parameter.name not in _NOT_GIVEN]
        return []

    def _split(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the arguments for torch's layer, and the others."""
        theirs = {name: value for name, value in kwargs.items() if name in self._float_arguments}
        return theirs, {name: value for name, value in kwargs.items() if name not in theirs}


class QuantizedInputLayer(QuantInputMixin, _Layer):
    """A layer of torch's that gets a quantized input. Write it before torch's class."""

    _descriptors = ("quant_desc_input",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        theirs, ours = self._split(kwargs)
        super().__init__(*args, **theirs)
        self.init_quantizer(pop_quant_desc_in_kwargs(type(self), input_only=True, **ours))

    def forward(self, input: Any) -> Any:  # torch's name
        """Return what torch's layer makes of the quantized input."""
        return super().forward(self._input_quantizer(input))


class QuantizedWeightLayer(QuantMixin, _Layer):
    """A layer of torch's whose forward quantizes input and weight. Write it before torch's class."""

    _descriptors = ("quant_desc_input", "quant_desc_weight")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        theirs, ours = self._split(kwargs)
        super().__init__(*args, **theirs)
        quant_desc_input, quant_desc_weight = pop_quant_desc_in_kwargs(type(self), **ours)
        self.init_quantizer(quant_desc_input, quant_desc_weight, self._num_quantizers())

    def _num_quantizers(self) -> int | None:
        """Return how many quantizers of each kind to make in lists; None for one of each."""
        return None
