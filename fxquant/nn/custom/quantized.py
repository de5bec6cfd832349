"""The quantized class of every custom module that has one; ``quantized.pyi`` lists them for readers."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.nn.custom import computing, detection, forms, indexing, moving, transforms
from fxquant.nn.custom.families import FunctionalBatchNorm, Scatter
from fxquant.nn.generate import quantized_class, quantized_classes
from fxquant.nn.mixin import QuantizationMixin
from fxquant.nn.standard import StandardForward
from fxquant.ops import ModuleForm

# module, family, number of inputs up to the last that can be quantized, functions for a kernel to replace
_OWN_FORWARD: tuple[tuple[type[nn.Module], type[StandardForward], int, tuple[Any, ...]], ...] = (
    (moving.StridedSlice, StandardForward, 1, (torch.Tensor.__getitem__,)),
    (moving.ChannelShuffle, StandardForward, 1, ()),
    (moving.DepthToSpaceCRDMode, StandardForward, 1, ()),
    (moving.DepthToSpaceDCRMode, StandardForward, 1, ()),
    (moving.NullRequant, StandardForward, 1, ()),
    (indexing.CustomGather, StandardForward, 1, (torch.index_select,)),
    (indexing.GatherNd, StandardForward, 1, ()),
    (indexing.ScatterND, StandardForward, 3, ()),
    (indexing.ScatterElements, Scatter, 3, ()),
    (indexing.OneHot, StandardForward, 1, ()),
    (computing.DynamicConv2d, StandardForward, 3, (F.conv2d,)),
    (computing.DynamicLinear, StandardForward, 3, (F.linear,)),
    (computing.BatchNorm, FunctionalBatchNorm, 5, (F.batch_norm,)),
    (computing.CustomSiLU, StandardForward, 1, ()),
    (computing.RotaryEmbedding, StandardForward, 4, ()),
    (transforms.RmsNorm, StandardForward, 1, ()),
    (transforms.HadamardRotation, StandardForward, 1, ()),
    (detection.RoiAlign, StandardForward, 2, ()),
)
_CLASSES = quantized_classes(lambda module_class: issubclass(module_class, ModuleForm), __name__) | {
    f"Quantized{module.__name__}": quantized_class(
        module, family, __name__, num_inputs=inputs, torch_functions=functions
    )
    for module, family, inputs, functions in _OWN_FORWARD
}
for _name in forms.__all__:
    if f"Quantized{_name}" not in _CLASSES:
        QuantizationMixin.ignore(getattr(forms, _name))
for _module in (moving.Cast, detection.NonMaxSuppression):
    QuantizationMixin.ignore(_module)

__all__ = sorted(_CLASSES)
globals().update(_CLASSES)
