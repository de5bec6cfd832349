"""A case for the quantized class of each custom module."""

import operator

import torch
from torch.nn import functional as F

from fxquant.nn import custom
from tests.nn.cases import IMAGE, Case, case, normal, positive

MATRIX, OTHER = (3, 5), positive(3, 5)
INDEX = torch.tensor([[0, 2, 1, 0, 1]])
ROWS = torch.tensor([2, 0])

UNARY = {
    name: (case(getattr(custom, name)(), positive(3, 5)), function)
    for name, function in {
        "Abs": torch.abs,
        "Argmax": torch.argmax,
        "Argmin": torch.argmin,
        "Asin": torch.asin,
        "Atan": torch.atan,
        "Cos": torch.cos,
        "ElementwiseCeil": torch.ceil,
        "ElementwiseFloor": torch.floor,
        "Erf": torch.erf,
        "Exponential": torch.exp,
        "Log": torch.log,
        "LogicalNot": torch.logical_not,
        "Max": torch.max,
        "Min": torch.min,
        "AMax": torch.amax,
        "AMin": torch.amin,
        "Mean": torch.mean,
        "Neg": torch.neg,
        "Norm": torch.norm,
        "Normalize": F.normalize,
        "Prod": torch.prod,
        "RSqrt": torch.rsqrt,
        "Round": torch.round,
        "Sin": torch.sin,
        "Sqrt": torch.sqrt,
        "Square": torch.square,
        "Sum": torch.sum,
    }.items()
}
BINARY = {
    name: (case(getattr(custom, name)(), MATRIX, OTHER), function)
    for name, function in {
        "Add": operator.add,
        "Divide": operator.truediv,
        "FloorDivide": torch.floor_divide,
        "Fmod": torch.fmod,
        "LogicalAnd": torch.logical_and,
        "LogicalOr": torch.logical_or,
        "Maximum": torch.maximum,
        "Minimum": torch.minimum,
        "Multiply": operator.mul,
        "Remainder": torch.remainder,
        "Subtract": operator.sub,
    }.items()
}
FUNCTIONS = (
    UNARY
    | BINARY
    | {
        "AdaptiveAvgPool2d": (case(custom.AdaptiveAvgPool2d(), IMAGE, 2), F.adaptive_avg_pool2d),
        "Addmm": (case(custom.Addmm(), (3, 4), MATRIX, positive(5, 4)), torch.addmm),
        "AvgPool2d": (case(custom.AvgPool2d(), IMAGE, 2), F.avg_pool2d),
        "Baddbmm": (
            case(custom.Baddbmm(), (2, 3, 4), positive(2, 3, 5), torch.ones(2, 5, 4)),
            torch.baddbmm,
        ),
        "Bmm": (case(custom.Bmm(), (2, 3, 4), positive(2, 4, 5)), torch.bmm),
        "CumSum": (case(custom.CumSum(), MATRIX, dim=1), torch.cumsum),
        "Expand": (case(custom.Expand(), (3, 1), 3, 4), torch.Tensor.expand),
        "Gather": (case(custom.Gather(), normal(3, 5), 0, INDEX), torch.gather),
        "GridSample": (
            case(custom.GridSample(), IMAGE, positive(2, 3, 3, 2), align_corners=False),
            F.grid_sample,
        ),
        "GroupNorm": (case(custom.GroupNorm(), IMAGE, 2), F.group_norm),
        "IndexSelect": (case(custom.IndexSelect(), MATRIX, 0, ROWS), torch.index_select),
        "Interpolate": (case(custom.Interpolate(), IMAGE, scale_factor=2), F.interpolate),
        "MaskedFill": (
            case(custom.MaskedFill(), MATRIX, normal(3, 5) > 0, torch.tensor(0.5)),
            torch.masked_fill,
        ),
        "MatMul": (case(custom.MatMul(), (2, 3, 4), positive(4, 5)), operator.matmul),
        "MaxPool2d": (case(custom.MaxPool2d(), IMAGE, 2), F.max_pool2d),
        "Outer": (case(custom.Outer(), normal(3), positive(5)), torch.outer),
        "Pad": (case(custom.Pad(), MATRIX, [1, 2]), F.pad),
        "Permute": (case(custom.Permute(), MATRIX, [1, 0]), torch.permute),
        "Pow": (case(custom.Pow(), positive(3, 5), torch.tensor(2.0)), torch.pow),
        "Reshape": (case(custom.Reshape(), MATRIX, [5, 3]), torch.reshape),
        "Select": (case(custom.Select(), normal(3, 5), 0, 1), torch.select),
        "Split": (case(custom.Split(), MATRIX, 2, dim=1), torch.split),
        "Tile": (case(custom.Tile(), MATRIX, [2, 1]), torch.tile),
    }
)
OWN_FORWARD = {
    "BatchNorm": case(custom.BatchNorm(), normal(3, 5), *(positive(5) for _ in range(4))),
    "ChannelShuffle": case(custom.ChannelShuffle(2), IMAGE),
    "Concat": case(custom.Concat(1), (2, 3), (2, 4), (2, 1)),
    "CustomGather": case(custom.CustomGather(), MATRIX, torch.tensor([[0, -1], [1, 2]]), 1),
    "CustomSiLU": case(custom.CustomSiLU(), MATRIX),
    "DepthToSpaceCRDMode": case(custom.DepthToSpaceCRDMode([2, 2]), (1, 8, 2, 3)),
    "DepthToSpaceDCRMode": case(custom.DepthToSpaceDCRMode(2), (1, 8, 2, 3)),
    "DynamicConv2d": case(custom.DynamicConv2d(padding=1), IMAGE, positive(6, 4, 3, 3), positive(6)),
    "DynamicLinear": case(custom.DynamicLinear(), MATRIX, positive(4, 5), positive(4)),
    "GatherNd": case(custom.GatherNd(1), (2, 3, 4), torch.tensor([[[0], [2]], [[1], [1]]])),
    "HadamardRotation": case(custom.HadamardRotation(12), (2, 12)),
    "NullRequant": case(custom.NullRequant(), MATRIX, [5, 3]),
    "OneHot": case(custom.OneHot(4, 0.25, 0.75), torch.tensor([0, 3])),
    "RmsNorm": case(custom.RmsNorm([3, 5], [1], 1e-5), MATRIX),
    "RotaryEmbedding": case(
        custom.RotaryEmbedding(False, 4, 6), (1, 2, 3, 6), positive(1, 3, 2), positive(1, 3, 2)
    ),
    "ScatterElements": case(custom.ScatterElements(1), MATRIX, INDEX, torch.ones(1, 5)),
    "ScatterND": case(custom.ScatterND(), MATRIX, torch.tensor([[0], [2]]), torch.ones(2, 5)),
    "StridedSlice": case(custom.StridedSlice(), normal(3, 5), ((0, 2, 1), (1, 5, 2))),
}
CLASSES: dict[str, Case] = {name: case_ for name, (case_, _) in FUNCTIONS.items()} | OWN_FORWARD
