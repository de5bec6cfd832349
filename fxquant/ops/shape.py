"""Rows of ops that move, join or pick values, and of those that ask for a shape."""

import operator

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.ops.concat import Concat
from fxquant.ops.module_form import module_form
from fxquant.ops.op import Op, OutputRange, Returns, Scaling

_LIKE = OutputRange.LIKE_INPUT

SHAPE = (
    Op(
        name="cat",
        modules=(Concat,),
        functions=(torch.cat, torch.concat, torch.concatenate),
        is_variadic=True,
        output=OutputRange.SHARED,
        onnx="Concat",
    ),
    Op(name="stack", functions=(torch.stack,), is_variadic=True, output=OutputRange.SHARED, onnx="Concat"),
    Op(
        name="reshape",
        modules=(module_form("Reshape", torch.reshape),),
        functions=(torch.reshape,),
        methods=("reshape", "view", "view_as", "reshape_as"),
        output=_LIKE,
        keeps_values=True,
        onnx="Reshape",
    ),
    Op(
        name="flatten",
        modules=(nn.Flatten, nn.Unflatten),
        functions=(torch.flatten,),
        methods=("flatten", "unflatten"),
        output=_LIKE,
        keeps_values=True,
        is_flatten=True,
        onnx="Reshape",
    ),
    Op(
        name="transpose",
        modules=(module_form("Permute", torch.permute),),
        functions=(torch.permute, torch.transpose, torch.t, torch.movedim),
        methods=("permute", "transpose", "t", "movedim", "T", "mT", "H", "mH"),
        output=_LIKE,
        keeps_values=True,
        moves_dims=True,
        onnx="Transpose",
    ),
    Op(
        name="squeeze",
        functions=(torch.squeeze, torch.unsqueeze),
        methods=("squeeze", "unsqueeze"),
        output=_LIKE,
        keeps_values=True,
        onnx="Squeeze, Unsqueeze",
    ),
    Op(
        name="expand",
        modules=(module_form("Expand", torch.Tensor.expand), module_form("Tile", torch.tile)),
        functions=(torch.tile,),
        methods=("expand", "expand_as", "repeat", "tile"),
        output=_LIKE,
        onnx="Expand, Tile",
    ),
    Op(
        name="split",
        modules=(module_form("Split", torch.split),),
        functions=(torch.chunk, torch.split, torch.unbind, torch.tensor_split),
        methods=("chunk", "split", "unbind", "tensor_split"),
        output=_LIKE,
        returns=Returns.TUPLE,
        onnx="Split",
    ),
    Op(
        name="getitem",
        functions=(operator.getitem,),
        methods=("__getitem__",),
        output=_LIKE,
        may_take_apart=True,
        onnx="Slice, Gather",
    ),
    Op(
        name="select",
        modules=(module_form("Select", torch.select),),
        functions=(torch.select, torch.narrow, torch.flip, torch.roll),
        methods=("select", "narrow", "flip", "roll"),
        output=_LIKE,
        onnx="Gather, Slice",
    ),
    Op(
        name="pad",
        modules=(
            *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d),
            *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),
            *(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
            *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
            *(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
            module_form("Pad", F.pad),
        ),
        functions=(F.pad,),
        onnx="Pad",
    ),  # OWN: a constant other than zero may lie outside the input's range
    Op(
        name="interpolate",
        modules=(
            nn.Upsample,
            nn.UpsamplingNearest2d,
            nn.UpsamplingBilinear2d,
            module_form("Interpolate", F.interpolate),
        ),
        functions=(F.interpolate,),
        scaling=Scaling.AVERAGE,
        onnx="Resize",
    ),  # OWN: cubic interpolation overshoots
    Op(
        name="pixel_shuffle",
        modules=(nn.PixelShuffle,),
        functions=(F.pixel_shuffle,),
        output=_LIKE,
        keeps_values=True,
        onnx="DepthToSpace",
    ),
    Op(
        name="pixel_unshuffle",
        modules=(nn.PixelUnshuffle,),
        functions=(F.pixel_unshuffle,),
        output=_LIKE,
        keeps_values=True,
        onnx="SpaceToDepth",
    ),
    Op(name="fold", modules=(nn.Fold,), functions=(F.fold,), onnx="Col2Im"),
    Op(name="unfold", modules=(nn.Unfold,), functions=(F.unfold,)),
    Op(
        name="channel_shuffle",
        modules=(nn.ChannelShuffle,),
        functions=(F.channel_shuffle,),
        output=_LIKE,
        keeps_values=True,
        onnx="Reshape, Transpose, Reshape",
    ),
    Op(
        name="identity",
        modules=(nn.Identity,),
        methods=("contiguous",),
        output=_LIKE,
        keeps_values=True,
        is_noop_in_eval=True,
        has_quantized_modules=False,
    ),
    Op(
        name="dropout",
        modules=(
            nn.Dropout,
            nn.Dropout1d,
            nn.Dropout2d,
            nn.Dropout3d,
            nn.AlphaDropout,
            nn.FeatureAlphaDropout,
        ),
        functions=(
            F.dropout,
            F.dropout1d,
            F.dropout2d,
            F.dropout3d,
            F.alpha_dropout,
            F.feature_alpha_dropout,
            "torchvision.ops.stochastic_depth.stochastic_depth",
        ),
        output=_LIKE,
        is_noop_in_eval=True,
    ),
    Op(
        name="copy",
        functions=(torch.clone, torch.detach),
        methods=("clone", "detach", "data"),
        output=_LIKE,
        keeps_values=True,
        onnx="Identity",
    ),
    Op(
        name="triangle",
        functions=(torch.tril, torch.triu),
        methods=("tril", "triu"),
        output=_LIKE,
        onnx="Trilu",
    ),
    Op(
        name="repeat_interleave",
        functions=(torch.repeat_interleave,),
        methods=("repeat_interleave",),
        output=_LIKE,
        onnx="Expand, Reshape",
    ),
    Op(name="sliding_window", methods=("unfold",), output=_LIKE, onnx="Gather"),
    Op(
        name="shape",
        functions=("fxquant.graph.recordable.length_of",),
        methods=("size", "dim", "numel", "nelement", "shape", "ndim", "dtype", "device"),
        output=OutputRange.FLOAT,
        returns=Returns.VALUE,
        onnx="Shape",
    ),
    Op(
        name="guard",
        functions=(
            "fxquant.graph.guards.require",
            "fxquant.graph.recordable.truth_of",
            "fxquant.graph.recordable.rounded",
            "aten::_assert_tensor_metadata",
            torch._assert,
        ),
        methods=("item",),
        output=OutputRange.FLOAT,
        returns=Returns.VALUE,
    ),  # checks what capture fixed; nothing of it is exported
)
