"""Registry: which quantized class stands for which class of modules, and the way from one to the other."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from torch import nn
from torch.nn.utils import parametrize

from fxquant.errors import ModelTypeError, OptionError
from fxquant.nn.unknown_module import UnknownModuleError
from fxquant.ops import computes_like

_Class = TypeVar("_Class", bound="type[Registry]")


class Registry(nn.Module):
    """What a quantized class knows of the class it stands for; part of QuantizationMixin.

    Attributes:
        original_class: The class of modules that a quantized class stands for: its first base that is none.
    """

    cls_to_qcls: ClassVar[dict[type[nn.Module], type["Registry"]]] = {}
    qcls_to_cls: ClassVar[dict[type["Registry"], type[nn.Module]]] = {}
    original_class: ClassVar[type[nn.Module]] = nn.Module
    _ignored: ClassVar[set[type[nn.Module]]] = set()
    _ignores_unknown: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "quantized_forward" in vars(cls) and "forward" not in vars(cls):
            cls.forward = vars(cls)["quantized_forward"]  # its name in old code for AIMET
        cls.original_class = next(
            base for base in cls.__mro__ if issubclass(base, nn.Module) and not issubclass(base, Registry)
        )

    def __quant_init__(self) -> None:
        """Make the empty quantizer containers; called at the end of ``__init__`` and by ``from_module``."""

    @classmethod
    def implements(cls, module_cls: type[nn.Module]) -> Callable[[_Class], _Class]:
        """Register the decorated class as the quantized class of ``module_cls``."""

        def register(quantized: _Class) -> _Class:
            cls.cls_to_qcls[module_cls] = quantized
            cls.qcls_to_cls[quantized] = module_cls
            return quantized

        return register

    @classmethod
    def wrap(cls, module_cls: type[nn.Module]) -> type["Registry"]:
        """Return the quantized class of a class of modules; make and register one if there is none.

        Raises:
            OptionError: If it is not a class of modules.
        """
        if not issubclass(module_cls, nn.Module):
            raise OptionError(f"Expected module_cls to be a subclass of torch.nn.Module. Got {module_cls}.")
        if module_cls not in cls.cls_to_qcls:
            name = f"Quantized{module_cls.__name__}"
            made = type(name, (cls, module_cls), {"__module__": module_cls.__module__})
            cls.implements(module_cls)(made)
        return cls.cls_to_qcls[module_cls]

    @classmethod
    def ignore(cls, module_cls: type[nn.Module]) -> type[nn.Module]:
        """Leave modules of a class as they are, whether a quantized class is registered or not."""
        cls._ignored.add(module_cls)
        quantized = cls.cls_to_qcls.pop(module_cls, None)
        if quantized is not None:
            cls.qcls_to_cls.pop(quantized, None)
        return module_cls

    @classmethod
    def ignore_unknown_modules(cls, ignore: bool = True) -> None:
        """Let ``from_module`` return modules without a quantized class as they are."""
        Registry._ignores_unknown = ignore

    @classmethod
    def from_module(cls, module: nn.Module) -> Any:
        """Return a quantized module that shares parameters, buffers and hooks with a torch module.

        Raises:
            UnknownModuleError: If the module's class has no quantized class.
            ModelTypeError: If the module is parametrized.
        """
        if parametrize.is_parametrized(module):
            raise ModelTypeError(
                f"A parametrized {type(module).__name__} has no weight of its own to quantize.",
                remedy="Call torch.nn.utils.parametrize.remove_parametrizations on it first.",
            )
        quantized_class = registered_for(type(module))
        if quantized_class is None:
            if cls._ignores_unknown or type(module) in cls._ignored:
                return module
            raise UnknownModuleError(type(module), cls)
        quantized = quantized_class.__new__(quantized_class)
        quantized.__dict__ = own_state(module)
        quantized.__quant_init__()
        return quantized


def registered_for(module_class: type[nn.Module]) -> type[Registry] | None:
    """Return the quantized class for a torch class; None if there is none.

    A subclass that computes what its torch base computes is served by the base's quantized class.
    """
    if module_class in Registry._ignored:
        return None
    for base in module_class.__mro__:
        quantized = Registry.cls_to_qcls.get(base)
        if quantized is not None:
            return quantized if computes_like(module_class, base) else None
    return None


def own_state(module: nn.Module) -> dict[str, Any]:
    """Return a module's attributes: dicts and lists of its own, with the same things in them."""
    return {
        name: value.copy() if isinstance(value, dict | list) else value
        for name, value in vars(module).items()
    }
