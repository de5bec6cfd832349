"""Rows of the ops that multiply and accumulate."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from fxquant.ops import layer_form, macs, product_form
from fxquant.ops.module_form import module_form
from fxquant.ops.op import Op, Operand, Returns, Role, operands, weighted

_EMBEDDING = (
    Operand(name="input", index=0, role=Role.INDEX),
    Operand(name="weight", index=1, role=Role.WEIGHT),
)
_MATMUL = (
    Operand(name="input", index=0, channel_axis=-2),
    Operand(name="other", index=1, aliases=("mat2",), channel_axis=-1),
)

_BILINEAR = (
    *operands("input1", "input2"),
    Operand(name="weight", index=2, role=Role.WEIGHT, channel_axis=0),  # [out, in1, in2]
)  # no bias: a batch norm behind it normalizes another axis than the output's and must not be folded in

_LAYERS: tuple[tuple[str, type[nn.Module], Callable[..., Any], int, str], ...] = (
    ("conv1d", nn.Conv1d, F.conv1d, 0, "Conv"),  # weight: [out, in / groups, k]
    ("conv2d", nn.Conv2d, F.conv2d, 0, "Conv"),
    ("conv3d", nn.Conv3d, F.conv3d, 0, "Conv"),
    ("conv_transpose1d", nn.ConvTranspose1d, F.conv_transpose1d, 1, "ConvTranspose"),  # [in, out / groups, k]
    ("conv_transpose2d", nn.ConvTranspose2d, F.conv_transpose2d, 1, "ConvTranspose"),
    ("conv_transpose3d", nn.ConvTranspose3d, F.conv_transpose3d, 1, "ConvTranspose"),
)

_RECURRENT_FUNCTIONS = {"rnn": ("aten::rnn_tanh", "aten::rnn_relu"), "rnn_cell": ("aten::rnn_tanh_cell",)}

ADDMM = Op(
    name="addmm",
    modules=(module_form("Addmm", torch.addmm),),
    functions=(torch.addmm,),
    methods=("addmm",),
    operands=operands("input", "mat1", "mat2"),
    macs=macs.product("mat1"),
    onnx="Gemm",
)

BADDBMM = Op(
    name="baddbmm",
    modules=(module_form("Baddbmm", torch.baddbmm),),
    functions=(torch.baddbmm,),
    methods=("baddbmm",),
    operands=operands("input", "batch1", "batch2"),
    macs=macs.product("batch1"),
    onnx="MatMul, Add",
)

EINSUM = Op(
    name="einsum",
    functions=(torch.einsum,),
    operands=(),
    macs=macs.einsum,
    onnx="Einsum",
)

WEIGHTED = (
    *(
        Op(
            name=name,
            modules=(module,),
            functions=(function,),
            operands=weighted(axis),
            layer=layer_form.convolution(module, is_transposed=axis == 1),
            product=product_form.TRANSPOSED if axis else product_form.CONVOLUTION,
            macs=macs.transposed_convolution if axis else macs.convolution,
            channel_axis=1,  # [n, channels, ...]
            onnx=onnx,
        )
        for name, module, function, axis, onnx in _LAYERS
    ),
    Op(
        name="linear",
        modules=(nn.Linear, NonDynamicallyQuantizableLinear),
        functions=(F.linear,),
        operands=weighted(0),  # weight: [out, in]
        layer=layer_form.LINEAR,
        product=product_form.LINEAR,
        macs=macs.linear,
        channel_axis=-1,
        onnx="Gemm, MatMul",
    ),
    Op(
        name="matmul",
        modules=(module_form("MatMul", torch.matmul), module_form("Bmm", torch.bmm)),
        functions=(operator.matmul, operator.imatmul, torch.matmul, torch.bmm, torch.mm),
        methods=("matmul", "bmm", "mm", "__matmul__"),
        operands=_MATMUL,
        macs=macs.product("input"),
        onnx="MatMul",
    ),
    Op(
        name="scaled_dot_product_attention",
        functions=(F.scaled_dot_product_attention,),
        operands=operands("query", "key", "value"),
        macs=macs.attention,
        onnx="MatMul, Softmax, MatMul",
    ),
    Op(
        name="embedding",
        modules=(nn.Embedding,),
        functions=(F.embedding,),
        operands=_EMBEDDING,
        onnx="Gather",
    ),
    Op(
        name="bilinear",
        modules=(nn.Bilinear,),
        functions=(F.bilinear,),
        operands=_BILINEAR,
        macs=macs.bilinear,
        onnx="Einsum",
    ),
    ADDMM,
    BADDBMM,
    EINSUM,
    *(
        Op(
            name=name,
            modules=(module,),
            functions=_RECURRENT_FUNCTIONS.get(name, (f"aten::{name}",)),
            returns=returns,
            has_written_modules=True,  # several weights
            macs=macs.recurrent,
            onnx=onnx,
        )
        for name, module, onnx, returns in (
            ("rnn", nn.RNN, "RNN", Returns.TUPLE),
            ("lstm", nn.LSTM, "LSTM", Returns.TUPLE),
            ("gru", nn.GRU, "GRU", Returns.TUPLE),
            ("rnn_cell", nn.RNNCell, "RNN", Returns.TENSOR),
            ("lstm_cell", nn.LSTMCell, "LSTM", Returns.TUPLE),
            ("gru_cell", nn.GRUCell, "GRU", Returns.TENSOR),
        )
    ),
    Op(
        name="outer",
        modules=(module_form("Outer", torch.outer),),
        functions=(torch.outer,),
        operands=operands("input", "vec2"),
        onnx="Mul",
    ),
)
