"""REWRITTEN: aten's operators that torch's functions of another name, or with other arguments, stand for."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from fxquant.graph.annotations import result_of

Arguments = dict[str, Any]  # by the operator's names


@dataclass(frozen=True, kw_only=True)
class Call:
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


def _convolution(given: Arguments, node: fx.Node) -> Call | None:
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
    return Call(target=functions[dims - 1], args=(given["input"], weight, given["bias"], *options))


def _native_batch_norm(given: Arguments, node: fx.Node) -> Call:
    args = [given[name] for name in ("input", "running_mean", "running_var", "weight", "bias")]
    return Call(target=F.batch_norm, args=(*args, False, given["momentum"], given["eps"]), is_first=True)


def _native_layer_norm(given: Arguments, node: fx.Node) -> Call:
    args = [given[name] for name in ("input", "normalized_shape", "weight", "bias", "eps")]
    return Call(target=F.layer_norm, args=tuple(args), is_first=True)


def _native_group_norm(given: Arguments, node: fx.Node) -> Call:
    args = (given["input"], given["group"], given.get("weight"), given.get("bias"), given["eps"])
    return Call(target=F.group_norm, args=args, is_first=True)


def _max_pool(given: Arguments, node: fx.Node) -> Call:
    names = ("self", "kernel_size", "stride", "padding", "dilation", "ceil_mode")
    args = tuple(given[name] for name in names if name in given)
    return Call(target=torch.max_pool2d, args=args, is_first=True)


def _softmax(function: Callable[..., Any]) -> Callable[[Arguments, fx.Node], Call]:
    return lambda given, node: Call(target=function, args=(given["self"], given["dim"]))


def _slice(given: Arguments, node: fx.Node) -> Call | None:
    dim = given.get("dim", 0)
    if dim < 0:
        return None
    index = slice(given.get("start"), given.get("end"), given.get("step"))
    return Call(target=operator.getitem, args=(given["self"], (*[slice(None)] * dim, index)))


def _index(given: Arguments, node: fx.Node) -> Call:
    indices = tuple(slice(None) if index is None else index for index in given["indices"])
    return Call(target=operator.getitem, args=(given["self"], indices))


def _index_put(given: Arguments, node: fx.Node) -> Call | None:
    if any(index is None for index in given["indices"]):
        return None
    return Call(target=torch.index_put, args=node.args, kwargs=node.kwargs)


def _size(given: Arguments, node: fx.Node) -> Call:
    return Call(target="size", args=(given["self"], given["dim"]))


def _cast(given: Arguments, node: fx.Node) -> Call | None:
    if given.keys() - {"self", "dtype"}:
        return None
    return Call(target="to", args=(given["self"], given["dtype"]))


def _padded(given: Arguments, node: fx.Node) -> Call:
    args = (given["self"], given["pad"], "constant", given.get("value", 0))
    return Call(target=F.pad, args=args)


def _copied(given: Arguments, node: fx.Node) -> Call:
    return Call(target="clone", args=(given["self"],))


def _reshaped(given: Arguments, node: fx.Node) -> Call:
    return Call(target="reshape", args=(given["self"], given["size"]))


def _interpolated(mode: str) -> Callable[[Arguments, fx.Node], Call | None]:
    def call(given: Arguments, node: fx.Node) -> Call | None:
        if "output_size" not in given or given.get("scales_h") is not None:
            return None
        options = {"size": given["output_size"], "scale_factor": given.get("scale_factors"), "mode": mode}
        if mode != "nearest":
            options["align_corners"] = given["align_corners"]
        return Call(target=F.interpolate, args=(given.get("input", given.get("self")),), kwargs=options)

    return call


def _mean_of_image(given: Arguments, node: fx.Node) -> Call:
    return Call(target=F.adaptive_avg_pool2d, args=(given["self"], given["output_size"]))


_CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
_TRANSPOSED_CONVOLUTIONS = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
REWRITTEN: dict[str, Callable[[Arguments, fx.Node], Call | None]] = {
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
