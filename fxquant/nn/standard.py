"""StandardForward: how most quantized modules run: quantize inputs and parameters, compute, quantize."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

import torch
from torch.nn.utils.rnn import PackedSequence

from fxquant.errors import QuantizerError
from fxquant.nn.kernels import is_replaceable, replaced
from fxquant.nn.mixin import Kernel, QuantizationMixin
from fxquant.quantization import QuantizedTensorBase


class StandardForward(QuantizationMixin):
    """A quantized module that applies its quantizers to its inputs and outputs by position.

    Tensors inside tuples count in order: (output, (h, c)) are outputs 0, 1 and 2.

    Attributes:
        num_inputs: How many input quantizers there are.
        num_outputs: How many output quantizers there are.
        input_names: The keywords of each input, where the original forward does not tell them.
        torch_functions: The torch functions of which a kernel takes the place.
    """

    num_inputs: ClassVar[int] = 1
    num_outputs: ClassVar[int] = 1
    input_names: ClassVar[tuple[tuple[str, ...], ...]] = ()
    torch_functions: ClassVar[tuple[Callable[..., Any], ...]] = ()

    def __quant_init__(self) -> None:
        self._hold_quantizers(self.num_inputs, self.num_outputs)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Run the module on quantized inputs and parameters, and quantize what it returns."""
        kernel = self.get_kernel()
        if kernel is not None and not self._is_computing_encodings:
            return self._run_kernel(kernel, inputs, kwargs)
        if kwargs:
            inputs, kwargs = self._by_position(inputs, kwargs)
        inputs = self._quantized_inputs(inputs, quantize_dequantize)
        parameters = {name: real_values(self.quantized_parameter(name)) for name in self.param_quantizers}
        if kwargs:
            kwargs = {name: real_values(value) for name, value in kwargs.items()}
        output = self.compute(parameters, *inputs, **kwargs)
        return self._quantized_outputs(output)

    def compute(self, parameters: dict[str, Any], *inputs: Any, **kwargs: Any) -> Any:
        """Run the original module's arithmetic with the parameters given instead of its own."""
        forward = self.original_class.forward
        changed = parameters and {name: parameters[name] for name in self._quantized_names()}
        if not changed:
            return forward(self, *inputs, **kwargs)
        with self.with_parameters(changed):
            return forward(self, *inputs, **kwargs)

    def _quantized_inputs(self, inputs: Iterable[Any], apply: Callable[[Any, Any], Any]) -> tuple[Any, ...]:
        quantizers = iter(self.input_quantizers)
        return tuple([mapped(value, quantizers, apply) for value in inputs])

    def _quantized_outputs(self, output: Any) -> Any:
        return mapped(output, iter(self.output_quantizers), quantize_dequantize)

    def _by_position(
        self, inputs: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with those given by keyword at their position, where they have one."""
        if self.input_names:
            rest = dict(kwargs)
            for names in self.input_names[len(inputs) :]:
                given = next((name for name in names if name in rest), None)
                if given is None:
                    break
                inputs = (*inputs, rest.pop(given))
            return inputs, rest
        bound = inspect.signature(self.original_class.forward).bind(self, *inputs, **kwargs)
        return bound.args[1:], bound.kwargs

    def _run_kernel(self, kernel: Kernel, inputs: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the original forward with a kernel in place of its torch function.

        Raises:
            QuantizerError: If the forward calls none of the functions that a kernel may replace.
        """
        calls: list[Any] = []

        def run(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
            calls.append(function)
            return self._kernel_output(kernel, args, options)

        functions = filter(is_replaceable, self.torch_functions)
        with replaced({function: partial(run, function) for function in functions}):
            output = self.original_class.forward(self, *inputs, **kwargs)
        if not calls:
            raise QuantizerError(
                f"{type(self).__name__} calls no torch function that a kernel could take the place of.",
                remedy="Remove the kernel: set_kernel(None), or set_default_kernel(None) for the class.",
            )
        return real_values(output)

    def _kernel_output(self, kernel: Kernel, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        args, options = self._kernel_arguments(args, options)
        quantizers: Any = self.output_quantizers
        encodings = [None if quantizer is None else quantizer.get_encodings() for quantizer in quantizers]
        single = encodings[0] if len(encodings) == 1 else tuple(encodings)
        return kernel(*args, **options, output_encodings=single)

    def _kernel_arguments(
        self, args: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments of a torch function as codes: inputs by position, parameters by identity."""
        named = [(getattr(self, name), quantizer) for name, quantizer in self.param_quantizers.items()]
        quantizers = {id(parameter): quantizer for parameter, quantizer in named if parameter is not None}

        def codes(value: Any) -> Any:
            return quantize(value, quantizers.get(id(value)))

        return self._quantized_inputs(map(codes, args), quantize), {k: codes(v) for k, v in options.items()}


def mapped(value: Any, quantizers: Any, apply: Callable[[Any, Any], Any]) -> Any:
    """Return a value with its tensors, in order, quantized by the next quantizers."""
    if type(value) is torch.Tensor:
        quantizer = next(quantizers, None)
        return value if quantizer is None else apply(value, quantizer)
    if isinstance(value, PackedSequence):
        return value._replace(data=apply(value.data, next(quantizers, None)))
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        items = [mapped(item, quantizers, apply) for item in value]
        return value._make(items) if hasattr(value, "_make") else type(value)(items)
    return apply(value, next(quantizers, None))


def quantize_dequantize(value: Any, quantizer: Any) -> Any:
    """Return the real values of a tensor, quantized if there is a quantizer; other values as they are."""
    value = real_values(value)
    if quantizer is None or not isinstance(value, torch.Tensor) or not value.is_floating_point():
        return value
    return real_values(quantizer(value))


def quantize(value: Any, quantizer: Any) -> Any:
    """Return the codes of a tensor that has a quantizer or carries an encoding; other values as they are."""
    if quantizer is not None and isinstance(value, torch.Tensor) and value.is_floating_point():
        value = quantizer(real_values(value))
    return coded(value)


def coded(value: Any) -> Any:
    """Return the codes of a tensor that carries an encoding; anything else as it is."""
    has_encoding = isinstance(value, QuantizedTensorBase) and value.encoding is not None
    return value.quantize() if has_encoding else value


def real_values(value: Any) -> Any:
    """Return the real values of a tensor that carries codes; anything else as it is."""
    has_encoding = isinstance(value, QuantizedTensorBase) and value.encoding is not None
    return value.dequantize() if has_encoding else value
