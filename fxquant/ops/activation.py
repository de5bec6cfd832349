"""Rows of activation functions."""

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.ops.op import Op, Operand, OutputRange, Role, Scaling

_PRELU = (
    Operand(name="input", index=0),
    Operand(name="weight", index=1, role=Role.WEIGHT, channel_axis=0),  # [channels], or one for all
)

ACTIVATION = (
    Op(
        name="relu",
        modules=(nn.ReLU,),
        functions=(F.relu, torch.relu, torch.relu_),
        methods=("relu", "relu_"),
        scaling=Scaling.EACH,
        is_identity_above_zero=True,
        in_place=lambda module, x: torch.relu_(x),
        onnx="Relu",
    ),
    Op(
        name="relu6",
        modules=(nn.ReLU6,),
        functions=(F.relu6,),
        unclipped=F.relu,
        in_place=lambda module, x: F.relu6(x, inplace=True),
        onnx="Clip",
    ),
    Op(
        name="clamp",
        modules=(nn.Hardtanh,),
        functions=(torch.clamp, torch.clip, F.hardtanh),
        methods=("clamp", "clamp_", "clip", "clamp_min", "clamp_max"),
        onnx="Clip",
    ),
    Op(
        name="leaky_relu",
        modules=(nn.LeakyReLU,),
        functions=(F.leaky_relu,),
        scaling=Scaling.EACH,
        is_identity_above_zero=True,
        onnx="LeakyRelu",
    ),
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
        modules=(nn.Softmax, nn.Softmax2d),
        functions=(F.softmax, torch.softmax),
        methods=("softmax",),
        output=OutputRange.FIXED,
        fixed_range=(0.0, 1.0),
        onnx="Softmax",
    ),
    Op(
        name="hard_swish",
        modules=(nn.Hardswish,),
        functions=(F.hardswish,),
        in_place=lambda module, x: F.hardswish(x, inplace=True),
        onnx="HardSwish",
    ),
    Op(
        name="silu",
        modules=(nn.SiLU,),
        functions=(F.silu,),
        gate=(torch.sigmoid,),
        in_place=lambda module, x: F.silu(x, inplace=True),
        onnx="Sigmoid, Mul",
    ),
    Op(
        name="gelu",
        modules=(nn.GELU,),
        functions=(F.gelu,),
        in_place=lambda module, x: torch.ops.aten.gelu_(x, approximate=module.approximate),
        onnx="Gelu",
    ),
    Op(name="elu", modules=(nn.ELU,), functions=(F.elu,), onnx="Elu"),
    Op(
        name="mish",
        modules=(nn.Mish,),
        functions=(F.mish,),
        gate=(F.softplus, torch.tanh),
        onnx="Softplus, Tanh, Mul",
    ),
    Op(name="celu", modules=(nn.CELU,), functions=(F.celu,), onnx="Celu"),
    Op(name="selu", modules=(nn.SELU,), functions=(F.selu,), onnx="Selu"),
    Op(name="glu", modules=(nn.GLU,), functions=(F.glu,), onnx="Split, Sigmoid, Mul"),
    Op(
        name="prelu",
        modules=(nn.PReLU,),
        functions=(F.prelu,),
        operands=_PRELU,
        scaling=Scaling.EACH,
        is_identity_above_zero=True,
        onnx="PRelu",
    ),
    Op(name="rrelu", modules=(nn.RReLU,), functions=(F.rrelu,), onnx="LeakyRelu"),
    Op(name="log_sigmoid", modules=(nn.LogSigmoid,), functions=(F.logsigmoid,), onnx="Sigmoid, Log"),
    Op(
        name="log_softmax",
        modules=(nn.LogSoftmax,),
        functions=(F.log_softmax, torch.log_softmax),
        methods=("log_softmax",),
        onnx="LogSoftmax",
    ),
    Op(name="softmin", modules=(nn.Softmin,), functions=(F.softmin,), onnx="Neg, Softmax"),
    Op(name="softplus", modules=(nn.Softplus,), functions=(F.softplus,), onnx="Softplus"),
    Op(name="softsign", modules=(nn.Softsign,), functions=(F.softsign,), onnx="Softsign"),
    Op(name="softshrink", modules=(nn.Softshrink,), functions=(F.softshrink,), onnx="Shrink"),
    Op(name="hardshrink", modules=(nn.Hardshrink,), functions=(F.hardshrink,), onnx="Shrink"),
    Op(name="tanhshrink", modules=(nn.Tanhshrink,), functions=(F.tanhshrink,), onnx="Tanh, Sub"),
    Op(name="threshold", modules=(nn.Threshold,), functions=(F.threshold,), onnx="ThresholdedRelu"),
)
