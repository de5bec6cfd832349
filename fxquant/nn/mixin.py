"""QuantizationMixin: what makes a torch module a quantized module."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, cast

import torch
from torch import nn
from typing_extensions import Self

from fxquant.nn.module_encodings import ModuleEncodings
from fxquant.nn.parameter_cache import ParameterCache
from fxquant.nn.registry import Registry, own_state, registered_for
from fxquant.nn.removal import Removal
from fxquant.quantization import EncodingBase, QuantizerBase
from fxquant.quantization.of_spec import stored

Kernel = Callable[..., Any]


class QuantizationMixin(ModuleEncodings, Registry):
    """A module that can quantize its inputs, outputs and parameters.

    A quantized class inherits from this mixin and from the torch class it stands for. All quantizers are
    None at first, which means: not quantized. A class for a module of one's own overrides ``__quant_init__``,
    to say how many inputs and outputs there are, and ``forward``, to apply the quantizers around
    ``super().forward()``, which is the original one. ``StandardForward`` does so for most modules.

    Attributes:
        input_quantizers: ModuleList with a quantizer or None for each tensor input.
        output_quantizers: ModuleList with a quantizer or None for each output.
        param_quantizers: ModuleDict with a quantizer or None for each parameter.

    Example:
        >>> from fxquant.nn import QuantizationMixin
        >>> import torch
        >>> class MaskedAdd(torch.nn.Module):
        ...     def forward(self, input, mask, value):
        ...         return input + mask * value
        >>> @QuantizationMixin.implements(MaskedAdd)
        ... class QuantizedMaskedAdd(QuantizationMixin, MaskedAdd):
        ...     def __quant_init__(self):
        ...         super().__quant_init__()
        ...         self.input_quantizers = torch.nn.ModuleList([None, None, None])
        ...     def forward(self, input, mask, value):
        ...         if self.input_quantizers[0]:
        ...             input = self.input_quantizers[0](input)
        ...         return super().forward(input, mask, value)
        >>> len(QuantizationMixin.from_module(MaskedAdd()).input_quantizers)
        3
    """

    input_quantizers: nn.ModuleList
    output_quantizers: nn.ModuleList
    param_quantizers: nn.ModuleDict

    _default_kernel: ClassVar[Kernel | None] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.__quant_init__()

    def __quant_init__(self) -> None:
        """Make the empty quantizer containers; called at the end of ``__init__`` and by ``from_module``."""
        self._hold_quantizers(1, 1)

    def _hold_quantizers(self, inputs: int, outputs: int) -> None:
        self._kernel: Kernel | None = None
        self._is_computing_encodings = False
        self._parameter_cache = ParameterCache()
        self.param_quantizers = nn.ModuleDict(dict.fromkeys(self._parameters))  # type: ignore[arg-type]  # None: absent
        self.input_quantizers = nn.ModuleList([None] * inputs)  # type: ignore[list-item]  # None: absent
        self.output_quantizers = nn.ModuleList([None] * outputs)  # type: ignore[list-item]  # None: absent

    def __nullary__(self) -> None:
        self._hold_quantizers(0, 1)

    def __unary__(self) -> None:
        self._hold_quantizers(1, 1)

    def __binary__(self) -> None:
        self._hold_quantizers(2, 1)

    def __ternary__(self) -> None:
        self._hold_quantizers(3, 1)

    def get_original_module(self) -> nn.Module:
        """Return the torch module without quantizers; it shares the parameters."""
        original = self.original_class.__new__(self.original_class)
        original.__dict__ = own_state(self)
        for name in ("_kernel", "_is_computing_encodings", "_parameter_cache"):
            del original.__dict__[name]
        for name in ("input_quantizers", "output_quantizers", "param_quantizers"):
            del original._modules[name]
        return original

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the original forward; a quantized class applies the quantizers around it."""
        return super().forward(*args, **kwargs)

    @classmethod
    def set_default_kernel(cls, kernel: Kernel | None) -> None:
        """Set the function that runs the op on quantized tensors, for all modules of the class.

        It takes the arguments of the torch function, tensors being QuantizedTensors, and output_encodings by
        keyword, and returns a QuantizedTensor. None goes back to the simulation in float.
        """
        cls._default_kernel = staticmethod(kernel) if kernel is not None else None

    @classmethod
    def get_default_kernel(cls) -> Kernel | None:
        """Return the kernel of the class; None for the simulation in float."""
        return cls._default_kernel

    def set_kernel(self, kernel: Kernel | None) -> None:
        """Set the kernel of this module; see ``set_default_kernel``."""
        self._kernel = kernel

    def get_kernel(self) -> Kernel | None:
        """Return the kernel of this module, or that of its class; None for the simulation in float."""
        return self._kernel or self.get_default_kernel()

    @contextlib.contextmanager
    def compute_encodings(self) -> Iterator[None]:
        """Calibrate all quantizers: those of parameters at once, the others on what runs inside.

        Inside the context inputs and outputs are observed and not quantized.
        """
        self.compute_param_encodings()
        with contextlib.ExitStack() as stack:
            for quantizer in dict.fromkeys([*self.input_quantizers, *self.output_quantizers]):
                if isinstance(quantizer, QuantizerBase):
                    stack.enter_context(quantizer.observing(pass_through=True))
            before, self._is_computing_encodings = self._is_computing_encodings, True
            try:
                yield
            finally:
                self._is_computing_encodings = before

    def compute_param_encodings(self) -> None:
        """Calibrate the quantizers of the parameters."""
        for name, quantizer in self.param_quantizers.items():
            parameter = getattr(self, name)
            if not isinstance(quantizer, QuantizerBase) or parameter is None:
                continue
            if quantizer.is_overwrite_allowed():
                quantizer.calibrate(parameter.detach())

    def quantized_parameter(self, name: str) -> Any:
        """Return a parameter on its grid: as it is without a quantizer, None where the module has none.

        A quantizer without a range is calibrated first. Where no gradient is wanted, a parameter is quantized
        once while it does not change.
        """
        quantizer: Any = self.param_quantizers[name]
        parameter = getattr(self, name)
        if parameter is None or quantizer is None:
            return parameter
        if not torch.compiler.is_compiling() and not quantizer.is_initialized():
            quantizer.calibrate(parameter.detach())
        return self._parameter_cache.quantized(name, parameter, quantizer)

    def _patch_quantized_parameters(self) -> contextlib.AbstractContextManager[None]:
        """Let the module read its parameters quantized inside the context."""
        return self.with_parameters(
            {name: self.quantized_parameter(name) for name in self._quantized_names()}
        )

    def _quantized_names(self) -> list[str]:
        """Return the names of the parameters that have a quantizer."""
        quantizers: Any = self.param_quantizers
        return [name for name, quantizer in quantizers.items() if quantizer is not None]

    def _frozen_names(self) -> set[str]:
        """Return the names of the parameters that are stored as codes."""
        return {name for name, q in self.param_quantizers.items() if getattr(q, "reads_codes", False)}

    @contextlib.contextmanager
    def with_parameters(self, parameters: dict[str, Any]) -> Iterator[None]:
        """Let the module read other tensors in place of its parameters inside the context."""
        held = {name: self._parameters.pop(name) for name in parameters if name in self._parameters}
        buffers = {name: self._buffers.pop(name) for name in parameters if name in self._buffers}
        self.__dict__.update(parameters)
        try:
            yield
        finally:
            for name in parameters:
                del self.__dict__[name]
            self._parameters.update(held)
            self._buffers.update(buffers)

    def fold_param_quantizers(self) -> None:
        """Put the parameters on their grids for good: they then carry their encodings, without quantizers.

        Frozen parameters stay the integers they are.
        """
        for name in set(self._quantized_names()) - self._frozen_names():
            parameter = getattr(self, name)
            if parameter is not None:
                with torch.no_grad():
                    folded = self.quantized_parameter(name).dequantize()
                setattr(self, name, nn.Parameter(folded, requires_grad=parameter.requires_grad))
                self.param_quantizers[name] = None  # type: ignore[assignment]  # None: absent

    def freeze_parameter(self, name: str, encoding: EncodingBase) -> None:
        """Store a parameter as codes; its entry in ``param_quantizers`` then dequantizes them."""
        value = self._parameters[name]
        assert value is not None
        codes = encoding.to_codes(value.detach())
        delattr(self, name)
        self.register_buffer(name, codes)
        self.param_quantizers[name] = stored(encoding, value.dtype)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Self:
        self._parameter_cache.clear()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch is untyped here
        return self

    def in_float(self) -> Removal:
        """Let the module run in float inside the context; frozen parameters give the values they have."""
        return self._remove_activation_quantizers() + self._remove_param_quantizers(
            self.param_quantizers.keys() - self._frozen_names()
        )

    def _remove_input_quantizers(self, indices: int | Iterable[int] | None = None) -> Removal:
        return Removal(self.input_quantizers, indices)

    def _remove_output_quantizers(self, indices: int | Iterable[int] | None = None) -> Removal:
        return Removal(self.output_quantizers, indices)

    def _remove_param_quantizers(self, keys: str | Iterable[str] | None = None) -> Removal:
        return Removal(self.param_quantizers, keys)

    def _remove_activation_quantizers(self) -> Removal:
        return self._remove_input_quantizers() + self._remove_output_quantizers()

    def _remove_all_quantizers(self) -> Removal:
        return self._remove_activation_quantizers() + self._remove_param_quantizers()


def quantized_class_of(module_class: type[nn.Module]) -> type[QuantizationMixin] | None:
    """Return the quantized class for a class of modules; None if there is none, or it is ignored.

    A subclass that computes what its torch base computes is served by the base's quantized class.
    """
    return cast("type[QuantizationMixin] | None", registered_for(module_class))
