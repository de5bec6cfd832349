"""The op table: every row, and the ways to find one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from fxquant.errors import unknown_option
from fxquant.ops.activation import ACTIVATION
from fxquant.ops.comparison import COMPARISON
from fxquant.ops.creation import CREATION
from fxquant.ops.elementwise import ELEMENTWISE
from fxquant.ops.grouped import GROUPED
from fxquant.ops.indexing import INDEXING
from fxquant.ops.loss import LOSS
from fxquant.ops.module_form import AnyFunction
from fxquant.ops.normalization import NORMALIZATION
from fxquant.ops.op import Op
from fxquant.ops.pooling import POOLING
from fxquant.ops.reduction import REDUCTION
from fxquant.ops.shape import SHAPE
from fxquant.ops.weighted import WEIGHTED

TABLE: tuple[Op, ...] = (
    *WEIGHTED,
    *GROUPED,
    *ELEMENTWISE,
    *ACTIVATION,
    *POOLING,
    *REDUCTION,
    *NORMALIZATION,
    *SHAPE,
    *INDEXING,
    *COMPARISON,
    *CREATION,
    *LOSS,
)

_BY_NAME = {op.name: op for op in TABLE}
_BY_MODULE = {module: op for op in TABLE for module in op.modules}
_BY_FUNCTION = {function: op for op in TABLE for function in op.functions}
_BY_METHOD = {method: op for op in TABLE for method in op.methods}


def op_named(name: str) -> Op:
    """Return the row with a name.

    Raises:
        OptionError: If there is none.
    """
    if name not in _BY_NAME:
        raise unknown_option("op", name, _BY_NAME)
    return _BY_NAME[name]


def op_of_module(module: nn.Module) -> Op | None:
    """Return the row of a module, by the nearest of its base classes; None if the table has none.

    A quantized module has the row of the class it stands for, which its class names in ``original_class``.
    A subclass with a forward of its own computes something else, so the table has no row for it.
    """
    if isinstance(module, AnyFunction):
        called = module.called
        if isinstance(called, nn.Module):
            return op_of_module(called)
        return op_of_method(called) if isinstance(called, str) else op_of_function(called)
    module_class = getattr(type(module), "original_class", None) or type(module)
    base = next((base for base in module_class.__mro__ if base in _BY_MODULE), None)
    return _BY_MODULE[base] if base is not None and computes_like(module_class, base) else None


def op_of_function(function: Callable[..., Any]) -> Op | None:
    """Return the row of a function, by identity or by qualified name; None if the table has none.

    An operator of torch.library is named as its schema names it, such as "aten::conv2d".
    """
    packet = function.overloadpacket if isinstance(function, torch._ops.OpOverload) else function
    if isinstance(packet, torch._ops.OpOverloadPacket):
        return _BY_FUNCTION.get(packet._qualified_op_name)
    qualified = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
    return _BY_FUNCTION.get(function) or _BY_FUNCTION.get(qualified)


def op_of_method(method: str) -> Op | None:
    """Return the row of a tensor method; None if the table has none."""
    return _BY_METHOD.get(method)


def computes_like(module_class: type[nn.Module], base: type[nn.Module]) -> bool:
    """Whether a subclass runs the arithmetic of its base: it overrides none of the methods that hold it."""
    methods = ("forward", "_conv_forward")
    return all(getattr(module_class, name, None) is getattr(base, name, None) for name in methods)
