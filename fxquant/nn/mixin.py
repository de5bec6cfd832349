"""QuantizationMixin: what makes a torch module a quantized module."""

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn
from torch.nn.utils import parametrize

from fxquant.errors import ModelTypeError
from fxquant.quantization import AffineEncoding
from fxquant.quantization.affine import FrozenDequantize

_Class = TypeVar("_Class", bound=type["QuantizationMixin"])


class QuantizationMixin(nn.Module):
    """A module that can quantize its inputs, outputs and parameters.

    A quantized class inherits from this mixin (or from one of the families that refine it) and from the
    torch class it stands for. All quantizers are None at first, which means: not quantized.

    Attributes:
        input_quantizers: ModuleList with a quantizer or None for each tensor input.
        output_quantizers: ModuleList with a quantizer or None for each output.
        param_quantizers: ModuleDict with a quantizer or None for each parameter.
    """

    input_quantizers: nn.ModuleList
    output_quantizers: nn.ModuleList
    param_quantizers: nn.ModuleDict

    num_inputs: ClassVar[int] = 1
    original_class: ClassVar[type[nn.Module]]
    quantized_classes: ClassVar[dict[type[nn.Module], type["QuantizationMixin"]]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.__quant_init__()

    def __quant_init__(self) -> None:
        """Make the empty quantizer containers; called at the end of ``__init__`` and by ``from_module``."""
        self._runs_in_float = False
        self.input_quantizers = nn.ModuleList([None] * self.num_inputs)  # type: ignore[list-item]  # None: absent
        self.output_quantizers = nn.ModuleList([None])  # type: ignore[list-item]  # None: absent
        self.param_quantizers = nn.ModuleDict(dict.fromkeys(self._parameters))  # type: ignore[arg-type]  # None: absent

    @classmethod
    def implements(cls, original: type[nn.Module]) -> Callable[[_Class], _Class]:
        """Register the decorated class as the quantized class of ``original``."""

        def register(quantized: _Class) -> _Class:
            quantized.original_class = original
            cls.quantized_classes[original] = quantized
            return quantized

        return register

    @classmethod
    def from_module(cls, module: nn.Module) -> "QuantizationMixin":
        """Return a quantized module that shares parameters, buffers and hooks with a torch module.

        Raises:
            ModelTypeError: If the module's class has no quantized class, or the module is parametrized.
        """
        if parametrize.is_parametrized(module):
            raise ModelTypeError(
                f"A parametrized {type(module).__name__} has no weight of its own to quantize.",
                remedy="Call torch.nn.utils.parametrize.remove_parametrizations on it first.",
            )
        quantized_class = quantized_class_of(type(module))
        if quantized_class is None:
            raise ModelTypeError(
                f"There is no quantized class for {type(module).__name__}.",
                remedy="Register one with @QuantizationMixin.implements(...).",
            )
        quantized = quantized_class.__new__(quantized_class)
        quantized.__dict__ = {
            name: value.copy() if isinstance(value, dict) else value for name, value in vars(module).items()
        }
        quantized.__quant_init__()
        return quantized

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Run the module on quantized inputs and parameters, and quantize what it returns."""
        if self._runs_in_float:
            return self.float_forward(*inputs, **kwargs)
        inputs, kwargs = self._by_position(inputs, kwargs)
        quantized = [
            _apply(quantizer, x) for quantizer, x in zip(self.input_quantizers, inputs, strict=False)
        ]
        parameters = {name: self.quantized_parameter(name) for name in self.param_quantizers}
        output = self.compute(parameters, *quantized, *inputs[len(quantized) :], **kwargs)
        return _apply(self.output_quantizers[0], output)

    @contextlib.contextmanager
    def in_float(self) -> Iterator[None]:
        """Let calls of the module, hooks included, run in float inside the context."""
        self._runs_in_float = True
        try:
            yield
        finally:
            self._runs_in_float = False

    def float_forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Run the module in float, as if it had no quantizer; frozen parameters give the values they have."""
        inputs, kwargs = self._by_position(inputs, kwargs)
        frozen = {n for n, q in self.param_quantizers.items() if isinstance(q, FrozenDequantize)}
        parameters = {
            name: self.quantized_parameter(name) if name in frozen else getattr(self, name)
            for name in self.param_quantizers
        }
        return self.compute(parameters, *inputs, **kwargs)

    def _by_position(
        self, inputs: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with those given by keyword at their position, where they have one."""
        if not kwargs:
            return inputs, kwargs
        bound = inspect.signature(self.original_class.forward).bind(self, *inputs, **kwargs)
        return bound.args[1:], bound.kwargs

    def compute(self, parameters: dict[str, torch.Tensor | None], *inputs: Any, **kwargs: Any) -> Any:
        """Run the original module's arithmetic with the parameters given instead of its own.

        A family of modules that has parameters overrides this; the others have nothing to replace.
        """
        return self.original_class.forward(self, *inputs, **kwargs)

    def quantized_parameter(self, name: str) -> torch.Tensor | None:
        """Return a parameter on its grid: as it is without a quantizer, None where the module has none."""
        parameter: torch.Tensor | None = getattr(self, name)
        return None if parameter is None else _apply(self.param_quantizers[name], parameter)

    def freeze_parameter(self, name: str, encoding: AffineEncoding) -> None:
        """Store a parameter as integer codes; its entry in ``param_quantizers`` then dequantizes them."""
        value = self._parameters[name]
        assert value is not None
        codes = encoding.to_integers(value.detach())
        delattr(self, name)
        self.register_buffer(name, codes)
        self.param_quantizers[name] = FrozenDequantize(encoding, value.dtype)


def quantized_class_of(module_class: type[nn.Module]) -> type[QuantizationMixin] | None:
    """Return the quantized class for a torch class; None if there is none.

    A subclass that computes what its torch base computes is served by the base's quantized class.
    """
    for base in module_class.__mro__:
        quantized = QuantizationMixin.quantized_classes.get(base)
        if quantized is not None:
            return quantized if computes_like(module_class, base) else None
    return None


def computes_like(module_class: type[nn.Module], base: type[nn.Module]) -> bool:
    """Whether a subclass runs the arithmetic of its base: it overrides none of the methods that hold it."""
    methods = ("forward", "_conv_forward")
    return all(getattr(module_class, name, None) is getattr(base, name, None) for name in methods)


def _apply(quantizer: nn.Module | None, value: Any) -> Any:
    return value if quantizer is None or not isinstance(value, torch.Tensor) else quantizer(value)
