"""as_torch_calls: calls of aten's operators, which exported programs hold, as the calls of torch they are.

The op table knows torch.nn.functional and torch; an ExportedProgram knows ``aten::conv2d`` or, decomposed,
``aten::convolution``. An operator without a counterpart stays what it is.
"""

import inspect
import operator
from types import FunctionType
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from fxquant.graph.annotations import LAYER, layer_of
from fxquant.graph.aten_rewrites import REWRITTEN, Arguments, Call
from fxquant.ops import Returns, op_of_function, op_of_method


def as_torch_calls(gm: fx.GraphModule) -> None:
    """Write calls of aten's operators as calls of torch, in place; each keeps what is noted on it."""
    has_changed = False
    for node in list(gm.graph.nodes):
        overload = node.target
        if node.op != "call_function" or not isinstance(overload, torch._ops.OpOverload):
            continue
        call = _torch_call(overload, node)
        if call is None or (call.is_first and not _only_first_is_read(node)):
            continue
        op = "call_method" if isinstance(call.target, str) else "call_function"
        with gm.graph.inserting_before(node):
            made = gm.graph.create_node(op, call.target, call.args, dict(call.kwargs))
        made.meta.update(node.meta)
        for part in list(node.users) if call.is_first else ():
            made.meta.update({key: value for key, value in part.meta.items() if key != LAYER})
            part.replace_all_uses_with(made)
            gm.graph.erase_node(part)
        node.replace_all_uses_with(made)
        gm.graph.erase_node(node)
        has_changed = True
    if has_changed:
        gm.recompile()


def note_layers(gm: fx.GraphModule, exported: fx.GraphModule) -> None:
    """Note on a captured graph's operators the layers that the exported program notes on them."""
    given, captured = _operators(exported), _operators(gm)
    if len(given) != len(captured):  # some run more often, or not at all
        return
    for source, node in zip(given, captured, strict=True):
        stack = [path for path, _ in (source.meta.get("nn_module_stack") or {}).values()]
        if source.target is node.target and stack and not layer_of(node):
            node.meta[LAYER] = stack[-1].partition("@")[0]


def _operators(gm: fx.GraphModule) -> list[fx.Node]:
    return [node for node in gm.graph.nodes if isinstance(node.target, torch._ops.OpOverload)]


def _torch_call(overload: torch._ops.OpOverload, node: fx.Node) -> Call | None:
    if overload.namespace != "aten":
        return None
    name = str(overload._schema.name).partition("::")[2]
    given = _by_name(overload, node)
    if name in REWRITTEN:
        return REWRITTEN[name](given, node)
    return _function_call(name, given) or _plain_call(name, overload, node)


def _by_name(overload: torch._ops.OpOverload, node: fx.Node) -> Arguments:
    """Return the arguments that a call gives, by the operator's names for them."""
    names = [argument.name for argument in overload._schema.arguments]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _function_call(name: str, given: Arguments) -> Call | None:
    """Return the call of a function of torch.nn.functional that is written in Python, by its names."""
    is_in_place = name.endswith("_")
    function = getattr(F, name.rstrip("_"), None)
    if function is None or op_of_function(function) is None:
        return None
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:  # a built-in has none
        return None
    names = _FUNCTIONAL_NAMES | _OWN_NAMES.get(name, {})
    renamed = {names.get(key, key): value for key, value in given.items() if key not in _DROPPED}
    if is_in_place:
        renamed["inplace"] = True
    needed = {key for key, parameter in parameters.items() if parameter.default is parameter.empty}
    # a reduction is a number to the operator and a text to the function
    if not needed <= renamed.keys() <= parameters.keys() or "reduction" in renamed:
        return None
    first, *others = parameters
    return Call(target=function, args=(renamed.pop(first),), kwargs=_trimmed(renamed, others))


def _trimmed(named: Arguments, order: list[str]) -> Arguments:
    return {name: named[name] for name in order if name in named}


def _plain_call(name: str, overload: torch._ops.OpOverload, node: fx.Node) -> Call | None:
    """Return the same call of torch's function or method of that name, which takes the same arguments."""
    for function in (getattr(F, name, None), getattr(torch, name, None)):
        op = None if function is None else op_of_function(function)
        gives_several = len(overload._schema.returns) > 1
        if (
            function is None
            or op is None
            or gives_several is not (op.returns is Returns.TUPLE and name not in _LISTS)
        ):
            continue
        if name in _SAME or not _is_python(function):
            return Call(target=function, args=node.args, kwargs=node.kwargs)
    is_method = op_of_method(name) is not None and bool(overload._schema.arguments)
    if is_method and overload._schema.arguments[0].name == "self" and callable(getattr(torch.Tensor, name)):
        return Call(target=name, args=node.args, kwargs=node.kwargs)
    return None


def _is_python(function: Any) -> bool:
    """Whether a function is written in Python, whose arguments may differ from the operator's."""
    return isinstance(function, FunctionType)


def _only_first_is_read(node: fx.Node) -> bool:
    return all(user.target is operator.getitem and user.args[1] == 0 for user in node.users)


_FUNCTIONAL_NAMES = {"self": "input", "train": "training"}
_OWN_NAMES = {"embedding": {"indices": "input"}}
_SAME = ("einsum", "split")  # functions written in Python that take what the operator takes
_LISTS = ("split", "chunk", "unbind", "tensor_split")  # give one list
_DROPPED = ("cudnn_enabled", "cudnn_enable")
