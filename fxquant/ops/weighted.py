"""Rows of the ops that multiply and accumulate."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.ops.op import Op, Operand, Role, operands, weighted

_EMBEDDING = (
    Operand(name="input", index=0, role=Role.INDEX),
    Operand(name="weight", index=1, role=Role.WEIGHT),
)
_MATMUL = (
    Operand(name="input", index=0, channel_axis=-2),
    Operand(name="other", index=1, aliases=("mat2",), channel_axis=-1),
)

_LAYERS: tuple[tuple[str, type[nn.Module], Callable[..., Any], int, str], ...] = (
    ("conv1d", nn.Conv1d, F.conv1d, 0, "Conv"),  # weight: [out, in / groups, k]
    ("conv2d", nn.Conv2d, F.conv2d, 0, "Conv"),
    ("conv3d", nn.Conv3d, F.conv3d, 0, "Conv"),
    ("conv_transpose1d", nn.ConvTranspose1d, F.conv_transpose1d, 1, "ConvTranspose"),  # [in, out / groups, k]
    ("conv_transpose2d", nn.ConvTranspose2d, F.conv_transpose2d, 1, "ConvTranspose"),
    ("conv_transpose3d", nn.ConvTranspose3d, F.conv_transpose3d, 1, "ConvTranspose"),
    ("linear", nn.Linear, F.linear, 0, "Gemm, MatMul"),  # weight: [out, in]
)

WEIGHTED = (
    *(
        Op(name=name, modules=(module,), functions=(function,), operands=weighted(axis), onnx=onnx)
        for name, module, function, axis, onnx in _LAYERS
    ),
    Op(
        name="matmul",
        functions=(operator.matmul, operator.imatmul, torch.matmul, torch.bmm, torch.mm),
        methods=("matmul", "bmm", "mm", "__matmul__"),
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
        functions=(F.embedding,),
        operands=_EMBEDDING,
        onnx="Gather",
    ),
)
