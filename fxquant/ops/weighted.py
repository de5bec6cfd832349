"""Rows of the ops that multiply and accumulate."""

import operator

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.ops.op import Op, Operand, OutputRange, Role, operands, weighted

_EMBEDDING = (
    Operand(name="input", index=0, role=Role.INDEX),
    Operand(name="weight", index=1, role=Role.WEIGHT),
)
_MATMUL = (
    Operand(name="input", index=0, channel_axis=-2),
    Operand(name="other", index=1, channel_axis=-1),
)

WEIGHTED = (
    Op(
        name="conv1d", modules=(nn.Conv1d,), functions=(F.conv1d,), operands=weighted(0), onnx="Conv"
    ),  # weight: [out, in / groups, k]
    Op(name="conv2d", modules=(nn.Conv2d,), functions=(F.conv2d,), operands=weighted(0), onnx="Conv"),
    Op(name="conv3d", modules=(nn.Conv3d,), functions=(F.conv3d,), operands=weighted(0), onnx="Conv"),
    Op(
        name="conv_transpose1d",  # weight: [in, out / groups, k]
        modules=(nn.ConvTranspose1d,),
        functions=(F.conv_transpose1d,),
        operands=weighted(1),
        onnx="ConvTranspose",
    ),
    Op(
        name="conv_transpose2d",
        modules=(nn.ConvTranspose2d,),
        functions=(F.conv_transpose2d,),
        operands=weighted(1),
        onnx="ConvTranspose",
    ),
    Op(
        name="conv_transpose3d",
        modules=(nn.ConvTranspose3d,),
        functions=(F.conv_transpose3d,),
        operands=weighted(1),
        onnx="ConvTranspose",
    ),
    Op(
        name="linear",  # weight: [out, in]
        modules=(nn.Linear,),
        functions=(F.linear,),
        operands=weighted(0),
        onnx="Gemm, MatMul",
    ),
    Op(
        name="matmul",
        functions=(operator.matmul, torch.matmul, torch.bmm),
        methods=("matmul", "bmm", "__matmul__"),
        operands=_MATMUL,
        onnx="MatMul",
    ),
    Op(
        name="scaled_dot_product_attention",
        functions=(F.scaled_dot_product_attention,),
        operands=operands("query", "key", "value"),
        onnx="MatMul, Softmax, MatMul",
    ),
    Op(
        name="embedding",
        modules=(nn.Embedding,),
        functions=(F.embedding, torch.embedding),
        operands=_EMBEDDING,
        output=OutputRange.OWN,
        onnx="Gather",
    ),
)
