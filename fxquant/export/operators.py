"""The operators that an exported graph is traced with, and their translation to ONNX.

``fxquant::quantize_dequantize`` becomes QuantizeLinear and DequantizeLinear, ``fxquant::dequantize`` (of
stored integers) becomes DequantizeLinear alone. Both carry the tensor's name, so that the file can use it.
``fxquant::split_groups`` becomes a Slice per group, whose bounds are computed, ``fxquant::join_groups`` a
Concat, ``fxquant::first_sorted`` a TopK.
"""

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset18, opset21

from fxquant.graph.groups import join_groups, split_groups
from fxquant.graph.recordable import first_sorted

_HALF = (
    ir.DataType.FLOAT16,
    ir.DataType.BFLOAT16,
)  # they need scales of their own type
TENSOR_NAME = "fxquant.tensor"  # metadata key on the ONNX value that a name belongs to

_LIBRARY = torch.library.Library("fxquant", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch is untyped here
_SCHEMAS = (
    "quantize_dequantize(Tensor input, Tensor scale, Tensor zero_point, int axis, str tensor) -> Tensor",
    "dequantize(Tensor codes, Tensor scale, Tensor zero_point, int axis, str tensor) -> Tensor",
    "split_groups(Tensor input, Tensor ends) -> Tensor[]",
    "join_groups(Tensor[] parts, Tensor input) -> Tensor",
    "first_sorted(Tensor input, SymInt k, int dim, bool largest) -> (Tensor, Tensor)",
)
for _schema in _SCHEMAS:
    _LIBRARY.define(_schema)  # type: ignore[no-untyped-call]  # torch is untyped here


def translations(opset: int) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the table that torch.onnx.export translates the two operators with."""
    ops: Any = opset21 if opset >= 21 else opset18

    def quantize_dequantize(input: Any, scale: Any, zero_point: Any, axis: int, tensor: str) -> Any:
        is_half = input.dtype in _HALF
        value = ops.Cast(input, to=ir.DataType.FLOAT) if is_half else input
        codes = ops.QuantizeLinear(value, scale, zero_point, axis=axis)
        codes.metadata_props[TENSOR_NAME] = tensor
        value = ops.DequantizeLinear(codes, scale, zero_point, axis=axis)
        return ops.Cast(value, to=input.dtype) if is_half else value

    def dequantize(codes: Any, scale: Any, zero_point: Any, axis: int, tensor: str) -> Any:
        has_zero_point = str(zero_point.dtype) != "INT32"  # a bias: ONNX knows no zero point for int32
        inputs = (codes, scale, zero_point) if has_zero_point else (codes, scale)
        value = ops.DequantizeLinear(*inputs, axis=axis)
        value.metadata_props[TENSOR_NAME] = tensor
        return value

    def split_groups(input: Any, ends: Any) -> Any:
        count, axes = ends.shape[0], ops.Constant(value_ints=[0])
        ends = ops.Cast(ends, to=ir.DataType.INT64)
        bounds = ops.Concat(ops.Constant(value_ints=[0]), ends, axis=0)
        at = [ops.Slice(bounds, _ints(ops, i), _ints(ops, i + 1), axes) for i in range(count + 1)]
        return [ops.Slice(input, at[index], at[index + 1], axes) for index in range(count)]

    def join_groups(parts: Any, input: Any) -> Any:
        joined = ops.Concat(*parts, axis=0)
        first, second = _ints(ops, 0), _ints(ops, 1)
        missing = ops.Sub(ops.Gather(ops.Shape(input), first), ops.Gather(ops.Shape(joined), first))
        sizes = ops.Concat(missing, ops.Slice(ops.Shape(joined), second, _ints(ops, 10**6)), axis=0)
        return ops.Concat(joined, ops.ConstantOfShape(sizes), axis=0)  # zeros for rows of no group

    def first_sorted(input: Any, k: Any, dim: int, largest: bool) -> Any:
        count = _ints(ops, k) if isinstance(k, int) else ops.Reshape(k, _ints(ops, 1))
        return ops.TopK(input, count, axis=dim, largest=int(largest), sorted=1)

    def sort_stably(input: Any, *, stable: Any = None, dim: int = -1, descending: bool = False) -> Any:
        axis = _ints(ops, dim % len(input.shape))
        count = ops.Gather(ops.Shape(input), axis)
        return ops.TopK(input, count, axis=dim, largest=int(descending), sorted=1)

    namespace = torch.ops.fxquant
    return {
        torch.ops.aten.sort.stable: sort_stably,
        namespace.split_groups.default: split_groups,
        namespace.first_sorted.default: first_sorted,
        namespace.join_groups.default: join_groups,
        namespace.quantize_dequantize.default: quantize_dequantize,
        namespace.dequantize.default: dequantize,
    }


def _ints(ops: Any, value: int) -> Any:
    return ops.Constant(value_ints=[value])


def _groups(input: torch.Tensor, ends: torch.Tensor) -> list[torch.Tensor]:
    context = torch.library.get_ctx()
    return [input.new_empty((context.new_dynamic_size(), *input.shape[1:])) for _ in range(ends.shape[0])]


def _first_sorted(input: torch.Tensor, k: int, dim: int, largest: bool) -> tuple[torch.Tensor, torch.Tensor]:
    sizes = list(input.shape)
    sizes[dim] = k
    return input.new_empty(sizes), input.new_empty(sizes, dtype=torch.int64)


def _joined(parts: list[torch.Tensor], input: torch.Tensor) -> torch.Tensor:
    return parts[0].new_empty((input.shape[0], *parts[0].shape[1:]))


def _like_input(
    input: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, axis: int, tensor: str
) -> torch.Tensor:
    return torch.empty_like(input)


def _like_codes(
    codes: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, axis: int, tensor: str
) -> torch.Tensor:
    return torch.empty_like(codes, dtype=scale.dtype)


torch.library.register_fake("fxquant::quantize_dequantize", _like_input, lib=_LIBRARY)
torch.library.register_fake("fxquant::dequantize", _like_codes, lib=_LIBRARY)
torch.library.register_fake("fxquant::split_groups", _groups, lib=_LIBRARY)
torch.library.register_fake("fxquant::join_groups", _joined, lib=_LIBRARY)
torch.library.register_fake("fxquant::first_sorted", _first_sorted, lib=_LIBRARY)

REPLACED: dict[Any, Any] = {
    split_groups: torch.ops.fxquant.split_groups.default,
    join_groups: torch.ops.fxquant.join_groups.default,
    first_sorted: torch.ops.fxquant.first_sorted.default,
}
"""Functions of a graph that torch.export cannot look into, and the operators that stand for them."""
