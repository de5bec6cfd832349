"""Rows of pooling and reductions."""

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.ops.op import Op, OutputRange

POOLING = (
    Op(
        name="max_pool",
        modules=(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d),
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
        modules=(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
        functions=(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d),
        onnx="AveragePool",
    ),
    Op(
        name="adaptive_avg_pool",
        modules=(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        functions=(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d),
        onnx="ReduceMean, AveragePool",
    ),
    Op(name="mean", functions=(torch.mean,), methods=("mean",), onnx="ReduceMean"),
    Op(name="sum", functions=(torch.sum,), methods=("sum",), onnx="ReduceSum"),
)
