"""quantized_class: makes the quantized class of a class of modules, from its row in the op table."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fxquant.nn.families import Parts, family_of
from fxquant.nn.mixin import QuantizationMixin
from fxquant.nn.standard import StandardForward
from fxquant.ops import TABLE, ModuleForm, Op, OutputRange, Returns, Role

_ROWS = {module_class: op for op in TABLE for module_class in op.modules}


def quantized_classes(wanted: Callable[[type[nn.Module]], bool], home: str) -> dict[str, type[Any]]:
    """Make and register the quantized classes of the op table's modules that are wanted; return them by name.

    Args:
        wanted: Chooses among the modules of the table.
        home: Dotted name of the module that will hold the classes, for pickles.
    """
    made: dict[str, type[Any]] = {}
    for op in (op for op in TABLE if not op.has_written_modules):
        for module_class in filter(wanted, op.modules):
            if op.has_quantized_modules:
                quantized = _class_from_row(op, module_class, home)
                made[quantized.__name__] = quantized
            else:
                QuantizationMixin.ignore(module_class)
    return made


def quantized_class(
    module_class: type[nn.Module], family: type[StandardForward], home: str, **attributes: Any
) -> type[StandardForward]:
    """Make and register a quantized class: of a family, with its class attributes."""
    name = f"Quantized{module_class.__name__}"
    origin = "torch.nn" if module_class.__module__.startswith("torch.") else "fxquant.nn.custom"
    document = (
        f"{origin}.{module_class.__name__} with quantizers for its inputs, parameters and output.\n\n"
        "    Arguments of construction and call are those of the original; see ``QuantizationMixin``.\n    "
    )
    members = {"__module__": home, "__doc__": document, **attributes}
    quantized: type[StandardForward] = type(name, (family, module_class), members)
    return QuantizationMixin.implements(module_class)(quantized)


def _class_from_row(op: Op, module_class: type[nn.Module], home: str) -> type[StandardForward]:
    inputs = op.inputs
    is_form = issubclass(module_class, ModuleForm)
    takes_apart = op.returns is Returns.TUPLE and op.output is OutputRange.LIKE_INPUT
    return quantized_class(
        module_class,
        Parts if takes_apart else family_of(module_class),
        home,
        num_inputs=max((i + 1 for i, o in enumerate(inputs) if o.role is Role.ACTIVATION), default=0),
        input_names=tuple((o.name, *o.aliases) for o in inputs) if is_form else (),
        torch_functions=_functions(module_class),
    )


def _functions(module_class: type[nn.Module]) -> tuple[Callable[..., Any], ...]:
    """Return the functions that a module's forward may call: those of its row, its own, and its bases'."""
    found: list[Callable[..., Any]] = []
    for base in module_class.__mro__:
        op = _ROWS.get(base)
        if op is not None:
            found += [function for function in op.functions if callable(function)]
            found += [getattr(torch.Tensor, method) for method in op.methods]
        if issubclass(base, ModuleForm) and base is not ModuleForm:
            found.append(base.function)
    return tuple(dict.fromkeys(found))
