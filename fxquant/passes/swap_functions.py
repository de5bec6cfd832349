"""SwapFunctions: swap calls of functions and methods for modules, which can hold quantizers.

Before::

    add = add(conv, x)

After::

    add = Add[add](conv, x)
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from fxquant.graph import Report
from fxquant.graph.annotations import layer_of
from fxquant.graph.edit import add_module
from fxquant.graph.values import op_of, returns
from fxquant.nn import quantized_class_of
from fxquant.ops import Concat, ModuleForm, Op, Returns
from fxquant.ops.module_form import AnyFunction
from fxquant.passes.base import Changes, Pass

_Call = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class SwapFunctions(Pass):
    """Swap calls of functions and methods for modules that compute the same."""

    name = "swap-functions"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for node in list(gm.graph.nodes):
            op = op_of(gm, node)
            is_call = node.op in ("call_function", "call_method")
            if not is_call or op is None or returns(gm, node) is not Returns.TENSOR or op.may_take_apart:
                continue
            module, args, kwargs = _module(op, node)
            path = add_module(gm, f"{layer_of(node)}.{op.name}".lstrip("."), module)
            with gm.graph.inserting_before(node):
                call = gm.graph.call_module(path, args, kwargs)
            call.meta.update(node.meta)
            node.replace_all_uses_with(call)
            gm.graph.erase_node(node)
            self.applied(gm, call, report, f"now a {type(module).__name__}")
            has_changed = True
        return has_changed


def _module(op: Op, node: fx.Node) -> _Call:
    """Return the module that computes what a call does, and what to call it with.

    A module of the op's row where that is exactly the call; otherwise the function itself as a module.
    """
    args, kwargs = _by_position(op, node)
    if Concat in op.modules and not args[2:] and kwargs.keys() <= {"dim", "axis"}:
        dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
        if isinstance(args[0], list | tuple) and isinstance(dim, int):
            return Concat(dim), tuple(args[0]), {}
    form = _form(op, node, args, kwargs)
    if form is not None:
        return form(), args, kwargs
    if len(args) == 1 and kwargs.keys() <= {"inplace"} and not op.is_noop_in_eval:
        plain = next((m for m in op.modules if not issubclass(m, ModuleForm) and _needs_nothing(m)), None)
        if plain is not None:
            return plain(), args, {}
    called: Any = node.target
    return AnyFunction(called), args, kwargs


def _form(op: Op, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> type[ModuleForm] | None:
    """Return the class of modules that is this very function, or the row's only one for plain operands."""
    forms = [m for m in op.modules if issubclass(m, ModuleForm) and quantized_class_of(m)]
    exact = [form for form in forms if form.function is node.target]
    is_plain = not kwargs and len(args) == len(op.activations) == len(op.operands)
    if not exact and len(forms) == 1 and is_plain and node.target is not torch.rsub:
        exact = forms
    return exact[0] if exact and exact[0] is not Concat else None


def _needs_nothing(module_class: type[nn.Module]) -> bool:
    """Whether a module is made without arguments and has a quantized class."""
    required = [
        parameter
        for parameter in inspect.signature(module_class).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return not required and quantized_class_of(module_class) is not None


def _by_position(op: Op, node: fx.Node) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a call, its operands by position as far as they follow each other."""
    args, kwargs = node.args, dict(node.kwargs)
    for operand in op.operands:
        given = next((name for name in (operand.name, *operand.aliases) if name in kwargs), None)
        if operand.index == len(args) and given is not None:
            args = (*args, kwargs.pop(given))
    return args, kwargs
