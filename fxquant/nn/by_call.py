"""QuantizedByCall: modules that are quantized where their forward calls its one torch function."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from fxquant.nn.kernels import is_replaceable, replaced
from fxquant.nn.standard import StandardForward, quantize, quantize_dequantize


class QuantizedByCall(StandardForward):
    """Quantizes the arguments and results of the torch function that the original forward calls.

    The forward of an RNN fills in states, unpacks sequences and keeps a list of its weights: it runs as it
    is. The float tensors among the arguments, other than parameters, are the inputs, in their order.
    """

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Run the original forward; the function it calls runs on quantized tensors."""
        kernel = self.get_kernel()
        if kernel is not None and not self._is_computing_encodings:
            return self._run_kernel(kernel, inputs, kwargs)
        quantizers = (*self.input_quantizers, *self.output_quantizers, *self.param_quantizers.values())
        if all(quantizer is None for quantizer in quantizers):
            return self.original_class.forward(self, *inputs, **kwargs)
        functions = filter(is_replaceable, self.torch_functions)
        simulated = {function: partial(self._simulated, function) for function in functions}
        frozen = {name: self.quantized_parameter(name) for name in self._frozen_names()}
        with self.with_parameters(frozen), replaced(simulated):  # torch checks the dtype of weights
            return self.original_class.forward(self, *inputs, **kwargs)

    def _simulated(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        args, options = self._arguments(args, options, quantize_dequantize)
        return self._quantized_outputs(function(*args, **options))

    def _kernel_arguments(
        self, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self._arguments(args, options, quantize)

    def _arguments(
        self, args: tuple[Any, ...], options: dict[str, Any], apply: Callable[[Any, Any], Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of the torch function, quantized: parameters by identity, inputs in order."""
        frozen = self._frozen_names()
        names = {
            id(getattr(self, name)): name for name in self.param_quantizers if getattr(self, name) is not None
        }
        quantizers = iter(self.input_quantizers)

        def quantized(value: Any) -> Any:
            if isinstance(value, tuple | list):
                return type(value)(quantized(item) for item in value)
            if id(value) in names:
                name = names[id(value)]
                return value if name in frozen else apply(self.quantized_parameter(name), None)
            is_input = isinstance(value, torch.Tensor) and value.is_floating_point()
            return apply(value, next(quantizers, None)) if is_input else value

        return tuple(map(quantized, args)), {name: quantized(value) for name, value in options.items()}
