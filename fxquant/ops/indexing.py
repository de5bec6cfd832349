"""Rows of ops that pick or place values by index, mask or coordinate."""

import torch
from torch.nn import functional as F

from fxquant.ops.module_form import module_form
from fxquant.ops.op import Op, Operand, OutputRange, Returns, Role, operands

_MASKED = (
    Operand(name="input", index=0),
    Operand(name="mask", index=1, role=Role.INDEX),
    Operand(name="value", index=2),
)

_SORTED = ("input", "dim", "descending")

INDEXING = (
    Op(
        name="gather",
        modules=(module_form("Gather", torch.gather),),
        functions=(torch.gather,),
        methods=("gather",),
        output=OutputRange.LIKE_INPUT,
        onnx="GatherElements",
    ),
    Op(
        name="index_select",
        modules=(module_form("IndexSelect", torch.index_select),),
        functions=(torch.index_select,),
        methods=("index_select",),
        output=OutputRange.LIKE_INPUT,
        onnx="Gather",
    ),
    Op(
        name="masked_fill",
        modules=(module_form("MaskedFill", torch.masked_fill),),
        functions=(torch.masked_fill,),
        methods=("masked_fill", "masked_fill_"),
        operands=_MASKED,
        onnx="Where",
    ),
    Op(
        name="index_put",
        functions=(
            "fxquant.graph.recordable.setitem_",
            "fxquant.graph.recordable.with_item",
            *(torch.index_put, torch.scatter, torch.masked_scatter),
        ),
        methods=(
            "index_put",
            "index_put_",
            "scatter",
            "scatter_",
            "masked_scatter",
            "index_copy",
            "index_add",
        ),
        onnx="ScatterND",
    ),
    Op(
        name="topk",
        functions=(torch.topk, "fxquant.graph.recordable.first_sorted"),
        methods=("topk",),
        output=OutputRange.LIKE_INPUT,
        returns=Returns.TUPLE,
        sorts=("input", "k", "dim", "largest", "sorted"),
        onnx="TopK",
    ),
    Op(
        name="sort",
        functions=(torch.sort,),
        methods=("sort",),
        output=OutputRange.LIKE_INPUT,
        returns=Returns.TUPLE,
        sorts=_SORTED,
        onnx="TopK",
    ),
    Op(
        name="argsort",
        functions=(torch.argsort,),
        methods=("argsort",),
        output=OutputRange.FLOAT,  # an index
        sorts=_SORTED,
        onnx="TopK",
    ),
    Op(
        name="grid_sample",
        modules=(module_form("GridSample", F.grid_sample),),
        functions=(F.grid_sample,),
        operands=operands("input", "grid"),
        onnx="GridSample",
    ),
)
