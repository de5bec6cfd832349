"""Rows of products that take another matrix for each group of rows, as mixtures of experts do."""

import torch

from fxquant.ops import macs
from fxquant.ops.op import Op, Operand, OutputRange, Returns, Role

_GROUPED = (
    Operand(name="input", index=0, aliases=("self", "mat_a")),  # [rows, in], sorted by group
    Operand(name="weight", index=1, aliases=("mat2", "mat_b")),  # [groups, in, out]
    Operand(name="offs", index=2, role=Role.INDEX),  # [groups]: where each group's rows end
)
_TAKEN_APART = (Operand(name="input", index=0), Operand(name="ends", index=1, role=Role.INDEX))

GROUPED_MATMUL = Op(
    name="grouped_matmul",
    functions=(
        "torch.nn.functional.grouped_mm",  # not in every release of torch
        "aten::_grouped_mm",
        "transformers::grouped_mm_fallback",
        *((torch._grouped_mm,) if hasattr(torch, "_grouped_mm") else ()),
    ),
    operands=_GROUPED,
    macs=macs.product("input"),
    onnx="Slice, MatMul, Concat",
)

GROUPED = (
    GROUPED_MATMUL,
    Op(
        name="split_groups",
        functions=("fxquant.graph.groups.split_groups",),
        operands=_TAKEN_APART,
        output=OutputRange.LIKE_INPUT,
        returns=Returns.TUPLE,
        onnx="Slice",
    ),
    Op(
        name="join_groups",
        functions=("fxquant.graph.groups.join_groups",),
        is_variadic=True,
        output=OutputRange.SHARED,
        onnx="Concat",
    ),
)
