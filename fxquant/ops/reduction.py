"""Rows of ops that reduce or accumulate along dimensions."""

import torch

from fxquant.ops.module_form import module_form
from fxquant.ops.op import Op, OutputRange, Scaling

REDUCTION = (
    Op(
        name="mean",
        modules=(module_form("Mean", torch.mean),),
        functions=(torch.mean,),
        methods=("mean",),
        scaling=Scaling.AVERAGE,
        onnx="ReduceMean",
    ),
    Op(
        name="sum",
        modules=(module_form("Sum", torch.sum),),
        functions=(torch.sum,),
        methods=("sum",),
        scaling=Scaling.AVERAGE,
        onnx="ReduceSum",
    ),
    Op(
        name="prod",
        modules=(module_form("Prod", torch.prod),),
        functions=(torch.prod,),
        methods=("prod",),
        onnx="ReduceProd",
    ),
    Op(
        name="norm",
        modules=(module_form("Norm", torch.norm),),
        functions=(torch.norm,),
        methods=("norm",),
        onnx="ReduceL1, ReduceL2",
    ),
    Op(
        name="cumsum",
        modules=(module_form("CumSum", torch.cumsum),),
        functions=(torch.cumsum,),
        methods=("cumsum",),
        onnx="CumSum",
    ),
    Op(
        name="amax",
        modules=(module_form("AMax", torch.amax),),
        functions=(torch.amax,),
        methods=("amax",),
        onnx="ReduceMax",
    ),
    Op(
        name="amin",
        modules=(module_form("AMin", torch.amin),),
        functions=(torch.amin,),
        methods=("amin",),
        onnx="ReduceMin",
    ),
    # torch.max and torch.min as functions may also compare two tensors, or give indices: they have no row
    Op(name="max", modules=(module_form("Max", torch.max),), onnx="ReduceMax"),
    Op(name="min", modules=(module_form("Min", torch.min),), onnx="ReduceMin"),
    *(
        Op(
            name=function.__name__,
            modules=(module_form(form, function),),
            functions=(function,),
            methods=(function.__name__,),
            output=OutputRange.FLOAT,  # an index
            onnx=onnx,
        )
        for form, function, onnx in (
            ("Argmax", torch.argmax, "ArgMax"),
            ("Argmin", torch.argmin, "ArgMin"),
        )
    ),
)
