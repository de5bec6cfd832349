"""as_torch_calls: calls of aten's operators, which exported programs hold, as the calls of torch they are.

The op table knows torch.nn.functional and torch; an ExportedProgram knows ``aten::conv2d`` or, decomposed,
``aten::convolution``. An operator without a counterpart stays what it is.
"""

import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from fxquant.graph.annotations import LAYER, layer_of, result_of
from fxquant.ops import Returns, op_of_function, op_of_method

_Arguments = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Call:
    """What a call is to be.

    Attributes:
        target: A function, or the name of a tensor method.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        is_first: Whether it gives the first of the tensors that the operator gives.
    """

    target: Callable[..., Any] | str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    is_first: bool = False


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


def _torch_call(overload: torch._ops.OpOverload, node: fx.Node) -> _Call | None:
    if overload.namespace != "aten":
        return None
    name = str(overload._schema.name).partition("::")[2]
    given = _by_name(overload, node)
    if name in _REWRITTEN:
        return _REWRITTEN[name](given, node)
    return _function_call(name, given) or _plain_call(name, overload, node)


def _by_name(overload: torch._ops.OpOverload, node: fx.Node) -> _Arguments:
    """Return the arguments that a call gives, by the operator's names for them."""
    names = [argument.name for argument in overload._schema.arguments]
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _function_call(name: str, given: _Arguments) -> _Call | None:
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
    if (
        not needed <= renamed.keys() <= parameters.keys() or "reduction" in renamed
    ):  # a number there, a text here
        return None
    first, *others = parameters
    return _Call(target=function, args=(renamed.pop(first),), kwargs=_trimmed(renamed, others))


def _trimmed(named: _Arguments, order: list[str]) -> _Arguments:
    return {name: named[name] for name in order if name in named}


def _plain_call(name: str, overload: torch._ops.OpOverload, node: fx.Node) -> _Call | None:
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
            return _Call(target=function, args=node.args, kwargs=node.kwargs)
    is_method = op_of_method(name) is not None and bool(overload._schema.arguments)
    if is_method and overload._schema.arguments[0].name == "self" and callable(getattr(torch.Tensor, name)):
        return _Call(target=name, args=node.args, kwargs=node.kwargs)
    return None


def _is_python(function: Any) -> bool:
    """Whether a function is written in Python, whose arguments may differ from the operator's."""
    return isinstance(function, FunctionType)


def _only_first_is_read(node: fx.Node) -> bool:
    return all(user.target is operator.getitem and user.args[1] == 0 for user in node.users)


def _convolution(given: _Arguments, node: fx.Node) -> _Call | None:
    weight = given["weight"]
    result = result_of(weight) if isinstance(weight, fx.Node) else None
    dims = len(given["stride"])
    if result is not None:
        dims = len(result.shape) - 2
    options = [given["stride"], given["padding"], given["dilation"], given["groups"]]
    functions: tuple[Callable[..., Any], ...] = _CONVOLUTIONS
    if given["transposed"]:
        options = [
            given["stride"],
            given["padding"],
            given["output_padding"],
            given["groups"],
            given["dilation"],
        ]
        functions = _TRANSPOSED_CONVOLUTIONS
    if not 1 <= dims <= len(functions):
        return None
    return _Call(target=functions[dims - 1], args=(given["input"], weight, given["bias"], *options))


def _native_batch_norm(given: _Arguments, node: fx.Node) -> _Call:
    args = [given[name] for name in ("input", "running_mean", "running_var", "weight", "bias")]
    return _Call(target=F.batch_norm, args=(*args, False, given["momentum"], given["eps"]), is_first=True)


def _native_layer_norm(given: _Arguments, node: fx.Node) -> _Call:
    args = [given[name] for name in ("input", "normalized_shape", "weight", "bias", "eps")]
    return _Call(target=F.layer_norm, args=tuple(args), is_first=True)


def _native_group_norm(given: _Arguments, node: fx.Node) -> _Call:
    args = (given["input"], given["group"], given.get("weight"), given.get("bias"), given["eps"])
    return _Call(target=F.group_norm, args=args, is_first=True)


def _max_pool(given: _Arguments, node: fx.Node) -> _Call:
    names = ("self", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    args = tuple(given[name] for name in names if name in given)
    return _Call(target=torch.max_pool2d, args=args, is_first=True)


def _softmax(function: Callable[..., Any]) -> Callable[[_Arguments, fx.Node], _Call]:
    return lambda given, node: _Call(target=function, args=(given["self"], given["dim"]))


def _slice(given: _Arguments, node: fx.Node) -> _Call | None:
    dim = given.get("dim", 0)
    if dim < 0:
        return None
    index = slice(given.get("start"), given.get("end"), given.get("step"))
    return _Call(target=operator.getitem, args=(given["self"], (*[slice(None)] * dim, index)))


def _index(given: _Arguments, node: fx.Node) -> _Call:
    indices = tuple(slice(None) if index is None else index for index in given["indices"])
    return _Call(target=operator.getitem, args=(given["self"], indices))


def _index_put(given: _Arguments, node: fx.Node) -> _Call | None:
    if any(index is None for index in given["indices"]):
        return None
    return _Call(target=torch.index_put, args=node.args, kwargs=node.kwargs)


def _size(given: _Arguments, node: fx.Node) -> _Call:
    return _Call(target="size", args=(given["self"], given["dim"]))


def _cast(given: _Arguments, node: fx.Node) -> _Call | None:
    if given.keys() - {"self", "dtype"}:
        return None
    return _Call(target="to", args=(given["self"], given["dtype"]))


def _padded(given: _Arguments, node: fx.Node) -> _Call:
    args = (given["self"], given["pad"], "constant", given.get("value", 0))
    return _Call(target=F.pad, args=args)


def _copied(given: _Arguments, node: fx.Node) -> _Call:
    return _Call(target="clone", args=(given["self"],))


def _reshaped(given: _Arguments, node: fx.Node) -> _Call:
    return _Call(target="reshape", args=(given["self"], given["size"]))


def _interpolated(mode: str) -> Callable[[_Arguments, fx.Node], _Call | None]:
    def call(given: _Arguments, node: fx.Node) -> _Call | None:
        if "output_size" not in given or given.get("scales_h") is not None:
            return None
        options = {"size": given["output_size"], "scale_factor": given.get("scale_factors"), "mode": mode}
        if mode != "nearest":
            options["align_corners"] = given["align_corners"]
        return _Call(target=F.interpolate, args=(given.get("input", given.get("self")),), kwargs=options)

    return call


def _mean_of_image(given: _Arguments, node: fx.Node) -> _Call:
    return _Call(target=F.adaptive_avg_pool2d, args=(given["self"], given["output_size"]))


_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED_CONVOLUTIONS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
_FUNCTIONAL_NAMES = {"self": "input", "train": "training"}
_OWN_NAMES = {"embedding": {"indices": "input"}}
_SAME = ("einsum", "split")  # functions written in Python that take what the operator takes
_LISTS = ("split", "chunk", "unbind", "tensor_split")  # give one list
_DROPPED = ("cudnn_enabled", "cudnn_enable")
_REWRITTEN: dict[str, Callable[[_Arguments, fx.Node], _Call | None]] = {
    "convolution": _convolution,
    "_native_batch_norm_legit_no_training": _native_batch_norm,
    "native_layer_norm": _native_layer_norm,
    "native_group_norm": _native_group_norm,
    "max_pool2d_with_indices": _max_pool,
    "_softmax": _softmax(F.softmax),
    "_log_softmax": _softmax(F.log_softmax),
    "slice": _slice,
    "index": _index,
    "index_put": _index_put,
    "sym_size": _size,
    "_to_copy": _cast,
    "constant_pad_nd": _padded,
    "lift_fresh_copy": _copied,
    "alias": _copied,
    "_unsafe_view": _reshaped,
    "_adaptive_avg_pool2d": _mean_of_image,
    "upsample_nearest2d": _interpolated("nearest"),
    "upsample_bilinear2d": _interpolated("bilinear"),
    "upsample_bicubic2d": _interpolated("bicubic"),
}
