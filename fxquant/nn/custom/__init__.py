"""Functional ops as modules, and their quantized forms, for models whose every op can hold quantizers.

Names and arguments are AIMET's. Most classes are made from the op table: ``custom.Add`` calls torch.add, and
``custom.QuantizedAdd`` does so between quantizers.
"""

from fxquant.nn.custom import forms, quantized
from fxquant.nn.custom.any_function import QuantizedAnyFunction
from fxquant.nn.custom.computing import BatchNorm, CustomSiLU, DynamicConv2d, DynamicLinear, RotaryEmbedding
from fxquant.nn.custom.detection import NonMaxSuppression, RoiAlign
from fxquant.nn.custom.forms import *  # noqa: F403  # made from the op table
from fxquant.nn.custom.indexing import CustomGather, GatherNd, OneHot, ScatterElements, ScatterND
from fxquant.nn.custom.moving import (
    Cast,
    ChannelShuffle,
    DepthToSpaceCRDMode,
    DepthToSpaceDCRMode,
    NullRequant,
    StridedSlice,
)
from fxquant.nn.custom.quantized import *  # noqa: F403  # made from the op table
from fxquant.nn.custom.transforms import HadamardRotation, RmsNorm
from fxquant.ops import Concat

__all__ = [
    "BatchNorm",
    "Cast",
    "ChannelShuffle",
    "Concat",
    "CustomGather",
    "CustomSiLU",
    "DepthToSpaceCRDMode",
    "DepthToSpaceDCRMode",
    "DynamicConv2d",
    "DynamicLinear",
    "GatherNd",
    "HadamardRotation",
    "NonMaxSuppression",
    "NullRequant",
    "OneHot",
    "QuantizedAnyFunction",
    "RmsNorm",
    "RoiAlign",
    "RotaryEmbedding",
    "ScatterElements",
    "ScatterND",
    "StridedSlice",
]
__all__ += forms.__all__
__all__ += quantized.__all__
