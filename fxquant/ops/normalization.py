"""Rows of normalizations: all of them measured anew."""

from torch import nn
from torch.nn import functional as F

from fxquant.ops.layer_form import BATCH_NORM, LAYER_NORM
from fxquant.ops.module_form import module_form
from fxquant.ops.op import Op, Operand, Role

_LAYER_NORM = (
    Operand(name="input", index=0),
    Operand(name="weight", index=2, role=Role.WEIGHT),  # of the shape that is normalized
    Operand(name="bias", index=3, role=Role.BIAS),
)

GROUP_NORM = Op(
    name="group_norm",
    modules=(nn.GroupNorm, module_form("GroupNorm", F.group_norm)),
    functions=(F.group_norm,),
    channel_axis=1,
    onnx="GroupNormalization",
)

NORMALIZATION = (
    Op(
        name="batch_norm",
        modules=(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        functions=(F.batch_norm,),
        layer=BATCH_NORM,
        channel_axis=1,
        onnx="BatchNormalization",
    ),
    Op(
        name="layer_norm",
        modules=(nn.LayerNorm,),
        functions=(F.layer_norm,),
        operands=_LAYER_NORM,
        layer=LAYER_NORM,
        channel_axis=-1,
        scaled_axis=-1,
        onnx="LayerNormalization",
    ),
    GROUP_NORM,
    Op(
        name="instance_norm",
        modules=(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        functions=(F.instance_norm,),
        onnx="InstanceNormalization",
    ),
    Op(
        name="rms_norm",
        modules=(nn.RMSNorm,),
        functions=(F.rms_norm,),
        scaled_axis=-1,
        onnx="RMSNormalization",
    ),
    Op(
        name="local_response_norm",
        modules=(nn.LocalResponseNorm,),
        functions=(F.local_response_norm,),
        onnx="LRN",
    ),
    Op(
        name="normalize",
        modules=(module_form("Normalize", F.normalize),),
        functions=(F.normalize,),
        onnx="LpNormalization",
    ),
)
