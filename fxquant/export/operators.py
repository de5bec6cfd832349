"""The operators that an exported graph is traced with, and their translation to ONNX.

``fxquant::quantized`` stands where an activation is quantized, ``fxquant::stored`` where codes become real
values. Both hold nothing but the number of their site: tracing pays for every tensor that a graph holds. They
become nodes of the same name in the ONNX graph, which ``write_quantizers`` replaces.

``fxquant::split_groups`` becomes a Slice per group, whose bounds are computed, ``fxquant::join_groups`` a
Concat, ``fxquant::first_sorted`` a TopK.
"""

from collections.abc import Callable
from typing import Any

import onnx
import onnx_ir as ir
import torch
from onnxscript import opset18
from onnxscript.values import Op, Opset

from fxquant.graph.groups import join_groups, split_groups
from fxquant.graph.recordable import first_sorted

DOMAIN = "fxquant"  # of nodes that are there while a file is written
SITE = "site"  # their attribute: number of the site
QUANTIZED, STORED = "Quantized", "Stored"

_LIBRARY = torch.library.Library("fxquant", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch is untyped here
_SCHEMAS = (
    "quantized(Tensor input, int site) -> Tensor",
    "stored(Tensor codes, int site, ScalarType dtype) -> Tensor",
    "split_groups(Tensor input, Tensor ends) -> Tensor[]",
    "join_groups(Tensor[] parts, Tensor input) -> Tensor",
    "first_sorted(Tensor input, SymInt k, int dim, bool largest) -> (Tensor, Tensor)",
)
for _schema in _SCHEMAS:
    _LIBRARY.define(_schema)  # type: ignore[no-untyped-call]  # torch is untyped here


_REAL = ("tensor(float)", "tensor(float16)", "tensor(bfloat16)", "tensor(double)")
_TYPES = (
    *_REAL,
    *(f"tensor({sign}int{bits})" for sign in ("", "u") for bits in (8, 16, 32, 64)),
    *("tensor(float8e4m3fn)", "tensor(float8e5m2)"),
)


def _mark(name: str, type_of_output: str) -> Op:
    """Return an ONNX operator of one input and the number of a site."""
    schema = onnx.defs.OpSchema(
        name,
        DOMAIN,
        1,
        inputs=[onnx.defs.OpSchema.FormalParameter("input", "T")],
        outputs=[onnx.defs.OpSchema.FormalParameter("output", type_of_output)],
        type_constraints=[("T", list(_TYPES), ""), ("R", list(_REAL), "")],
        attributes=[onnx.defs.OpSchema.Attribute(SITE, onnx.defs.OpSchema.AttrType.INT, "")],
    )
    return Op(Opset(DOMAIN, 1), name, schema)


_QUANTIZED, _STORED = _mark(QUANTIZED, "T"), _mark(STORED, "R")


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the table that torch.onnx.export translates the operators with."""
    ops: Any = opset18

    def quantized(input: Any, site: int) -> Any:
        return _QUANTIZED(input, site=site)

    def stored(codes: Any, site: int, dtype: Any) -> Any:
        return _STORED(codes, site=site)

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
        namespace.quantized.default: quantized,
        namespace.stored.default: stored,
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


def _like_input(input: torch.Tensor, site: int) -> torch.Tensor:
    return torch.empty_like(input)


def _like_codes(codes: torch.Tensor, site: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_like(codes, dtype=dtype)


# torch.export runs what is computed from numbers of a forward alone, beside tracing it.
_LIBRARY.impl("quantized", lambda input, site: input.clone(), "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]  # torch is untyped here
torch.library.register_fake("fxquant::quantized", _like_input, lib=_LIBRARY)
torch.library.register_fake("fxquant::stored", _like_codes, lib=_LIBRARY)
torch.library.register_fake("fxquant::split_groups", _groups, lib=_LIBRARY)
torch.library.register_fake("fxquant::join_groups", _joined, lib=_LIBRARY)
torch.library.register_fake("fxquant::first_sorted", _first_sorted, lib=_LIBRARY)

REPLACED: dict[Any, Any] = {
    split_groups: torch.ops.fxquant.split_groups.default,
    join_groups: torch.ops.fxquant.join_groups.default,
    first_sorted: torch.ops.fxquant.first_sorted.default,
}
"""Functions of a graph that torch.export cannot look into, and the operators that stand for them."""
