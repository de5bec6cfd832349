"""Direct translation: a traced graph goes to ONNX as it is where torch.onnx knows every op of it.

torch.onnx first decomposes a graph, which traces it twice more and takes longer than all the rest. That
serves ops it has no translation for, and ops that write in place. ``DIRECT`` holds translations of common ops
that it would decompose otherwise.
"""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18

from fxquant.errors import ExportError


def needs_no_decomposition(exported: torch.export.ExportedProgram) -> bool:
    """Whether no op of a graph writes values in place, and none has graphs of its own."""
    return not any(_writes_or_nests(node.target) for node in exported.graph.nodes)


def _writes_or_nests(function: object) -> bool:
    if isinstance(function, torch._ops.OpOverload):
        return function._schema.is_mutable and function is not torch.ops.aten.detach_.default
    return isinstance(function, torch._ops.HigherOrderOperator)


def as_it_is(exported: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Return a program with the same graph that does not let itself be decomposed."""
    direct = _Direct.__new__(_Direct)
    direct.__dict__.update(exported.__dict__)
    return direct


class _Direct(torch.export.ExportedProgram):
    def run_decompositions(self, *args: Any, **kwargs: Any) -> torch.export.ExportedProgram:
        return self


def _global_average(input: Any, output_size: Any) -> Any:
    has_batch = len(input.shape) == len(output_size) + 2  # ONNX takes the first two as batch and channels
    if not has_batch or any(not isinstance(size, int) or size != 1 for size in output_size):
        raise ExportError(f"An average pool to {list(output_size)} is decomposed.")
    return opset18.GlobalAveragePool(input)


def _same(input: Any) -> Any:
    return opset18.Identity(input)


def _and(input: Any, other: Any) -> Any:
    if {input.dtype, other.dtype} != {ir.DataType.BOOL}:
        raise ExportError("A bitwise and of integers is decomposed.")
    return opset18.And(input, other)


def _or(input: Any, other: Any) -> Any:
    if {input.dtype, other.dtype} != {ir.DataType.BOOL}:
        raise ExportError("A bitwise or of integers is decomposed.")
    return opset18.Or(input, other)


def _smaller(input: Any, other: Any) -> Any:
    _check_types(input, other)
    return opset18.Min(input, other)


def _larger(input: Any, other: Any) -> Any:
    _check_types(input, other)
    return opset18.Max(input, other)


def _check_types(input: Any, other: Any) -> None:
    if input.dtype is not other.dtype or input.dtype is ir.DataType.BOOL:
        raise ExportError("The larger of two types, or of truth values, is decomposed.")


def _to_type(input: Any, dtype: Any, *args: Any, **kwargs: Any) -> Any:
    return opset18.Cast(input, to=dtype)


def _to_device(input: Any, device: Any, dtype: Any, *args: Any, **kwargs: Any) -> Any:
    return opset18.Cast(input, to=dtype)


def _to_layout(input: Any, *, dtype: Any = None, **kwargs: Any) -> Any:
    return opset18.Identity(input) if dtype is None else opset18.Cast(input, to=dtype)


def _batch_norm(
    input: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    training: bool,
    momentum: Any,
    eps: float,
    *_: Any,
) -> Any:
    if training or weight is None or bias is None:
        raise ExportError("A batch norm in training, or without parameters, is decomposed.")
    return opset18.BatchNormalization(input, weight, bias, mean, variance, epsilon=eps)


_aten = torch.ops.aten
DIRECT: dict[Callable[..., Any], Callable[..., Any]] = {
    _aten.adaptive_avg_pool1d.default: _global_average,
    _aten.adaptive_avg_pool2d.default: _global_average,
    _aten.adaptive_avg_pool3d.default: _global_average,
    _aten.batch_norm.default: _batch_norm,
    _aten.detach_.default: _same,
    _aten.lift_fresh_copy.default: _same,
    _aten.__and__.Tensor: _and,
    _aten.__or__.Tensor: _or,
    _aten.min.other: _smaller,
    _aten.max.other: _larger,
    _aten.to.dtype: _to_type,
    _aten.to.device: _to_device,
    _aten.to.dtype_layout: _to_layout,
}
