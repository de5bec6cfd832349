"""Rows of elementwise arithmetic and activation functions."""

import operator

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.ops.op import Op, OutputRange, operands

_BINARY = operands("input", "other")

ELEMENTWISE = (
    Op(
        name="add",
        functions=(operator.add, operator.iadd, torch.add),
        methods=("add", "add_", "__add__", "__radd__", "__iadd__"),
        operands=_BINARY,
        onnx="Add",
    ),
    Op(
        name="sub",
        functions=(operator.sub, operator.isub, torch.sub, torch.subtract, torch.rsub),
        methods=("sub", "sub_"),
        operands=_BINARY,
        onnx="Sub",
    ),
    Op(
        name="mul",
        functions=(operator.mul, operator.imul, torch.mul, torch.multiply),
        methods=("mul", "mul_", "multiply", "multiply_", "__mul__", "__rmul__"),
        operands=_BINARY,
        onnx="Mul",
    ),
    Op(
        name="div",
        functions=(operator.truediv, operator.itruediv, torch.div, torch.divide, torch.true_divide),
        methods=("div", "div_", "divide"),
        operands=_BINARY,
        onnx="Div",
    ),
    Op(
        name="relu",
        modules=(nn.ReLU,),
        functions=(F.relu, torch.relu, torch.relu_),
        methods=("relu", "relu_"),
        onnx="Relu",
    ),
    Op(name="relu6", modules=(nn.ReLU6,), functions=(F.relu6,), onnx="Clip"),
    Op(
        name="clamp",
        modules=(nn.Hardtanh,),
        functions=(torch.clamp, torch.clip, F.hardtanh),
        methods=("clamp", "clamp_", "clip", "clamp_min", "clamp_max"),
        onnx="Clip",
    ),
    Op(name="leaky_relu", modules=(nn.LeakyReLU,), functions=(F.leaky_relu,), onnx="LeakyRelu"),
    Op(
        name="sigmoid",
        modules=(nn.Sigmoid,),
        functions=(torch.sigmoid, F.sigmoid),
        methods=("sigmoid", "sigmoid_"),
        output=OutputRange.FIXED,
        fixed_range=(0.0, 1.0),
        onnx="Sigmoid",
    ),
    Op(
        name="hard_sigmoid",
        modules=(nn.Hardsigmoid,),
        functions=(F.hardsigmoid,),
        output=OutputRange.FIXED,
        fixed_range=(0.0, 1.0),
        onnx="HardSigmoid",
    ),
    Op(
        name="tanh",
        modules=(nn.Tanh,),
        functions=(torch.tanh, F.tanh),
        methods=("tanh", "tanh_"),
        output=OutputRange.FIXED,
        fixed_range=(-1.0, 1.0),
        onnx="Tanh",
    ),
    Op(
        name="softmax",
        modules=(nn.Softmax,),
        functions=(F.softmax, torch.softmax),
        methods=("softmax",),
        output=OutputRange.FIXED,
        fixed_range=(0.0, 1.0),
        onnx="Softmax",
    ),
    Op(name="hard_swish", modules=(nn.Hardswish,), functions=(F.hardswish,), onnx="HardSwish"),
    Op(name="silu", modules=(nn.SiLU,), functions=(F.silu,), onnx="Sigmoid, Mul"),
    Op(name="gelu", modules=(nn.GELU,), functions=(F.gelu,), onnx="Gelu"),
    Op(name="elu", modules=(nn.ELU,), functions=(F.elu,), onnx="Elu"),
    Op(name="mish", modules=(nn.Mish,), functions=(F.mish,), onnx="Softplus, Tanh, Mul"),
)
