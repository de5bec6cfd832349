"""Rows of pooling."""

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.ops.module_form import module_form
from fxquant.ops.op import Op, Operand, OutputRange, Role, Scaling

_UNPOOL = (Operand(name="input", index=0), Operand(name="indices", index=1, role=Role.INDEX))

POOLING = (
    Op(
        name="max_pool",
        modules=(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, module_form("MaxPool2d", F.max_pool2d)),
        functions=(
            F.max_pool1d,
            F.max_pool2d,
            F.max_pool3d,
            torch.max_pool1d,
            torch.max_pool2d,
            torch.max_pool3d,
        ),
        output=OutputRange.LIKE_INPUT,
        onnx="MaxPool",
    ),
    Op(
        name="adaptive_max_pool",
        modules=(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
        functions=(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d),
        output=OutputRange.LIKE_INPUT,
        onnx="MaxPool, GlobalMaxPool",
    ),
    Op(
        name="avg_pool",
        modules=(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, module_form("AvgPool2d", F.avg_pool2d)),
        functions=(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
        scaling=Scaling.AVERAGE,
        onnx="AveragePool",
    ),
    Op(
        name="adaptive_avg_pool",
        modules=(
            nn.AdaptiveAvgPool1d,
            nn.AdaptiveAvgPool2d,
            nn.AdaptiveAvgPool3d,
            module_form("AdaptiveAvgPool2d", F.adaptive_avg_pool2d),
        ),
        functions=(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
        scaling=Scaling.AVERAGE,
        onnx="ReduceMean, AveragePool",
    ),
    Op(
        name="fractional_max_pool",
        modules=(nn.FractionalMaxPool2d, nn.FractionalMaxPool3d),
        functions=(F.fractional_max_pool2d, F.fractional_max_pool3d),
    ),
    Op(
        name="lp_pool",
        modules=(nn.LPPool1d, nn.LPPool2d, nn.LPPool3d),
        functions=(F.lp_pool1d, F.lp_pool2d, F.lp_pool3d),
        onnx="LpPool",
    ),
    Op(
        name="max_unpool",
        modules=(nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d),
        functions=(F.max_unpool1d, F.max_unpool2d, F.max_unpool3d),
        operands=_UNPOOL,
        onnx="MaxUnpool",
    ),
)
