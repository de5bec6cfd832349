"""Rows of normalizations: all of them measured anew, none of them run in integers by a target here."""

from torch import nn
from torch.nn import functional as F

from fxquant.ops.op import Op

NORMALIZATION = (
    Op(
        name="batch_norm",
        modules=(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
        functions=(F.batch_norm,),
        onnx="BatchNormalization",
    ),
    Op(name="layer_norm", modules=(nn.LayerNorm,), functions=(F.layer_norm,), onnx="LayerNormalization"),
    Op(name="group_norm", modules=(nn.GroupNorm,), functions=(F.group_norm,), onnx="GroupNormalization"),
    Op(
        name="instance_norm",
        modules=(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        functions=(F.instance_norm,),
        onnx="InstanceNormalization",
    ),
    Op(name="normalize", functions=(F.normalize,), onnx="LpNormalization"),
)
