"""Qualcomm's HTP through QNN: unsigned activations, signed weights, int32 biases, every tensor quantized.

The rule numbers (QNN-1 ...) are those of the rules that ``fxquant lint --target qualcomm`` checks.
"""

from dataclasses import replace

from fxquant.quantization import QuantizationSpec
from fxquant.targets.target import BiasHandling, FileForm, OutputRule, Placement, Rule, Scheme, Target

_UINT8 = QuantizationSpec(bitwidth=8, signed=False, symmetric=False)
_UINT16 = replace(_UINT8, bitwidth=16)
_INT8 = QuantizationSpec(bitwidth=8, signed=True, symmetric=True, narrow=True)
_INT4 = QuantizationSpec(bitwidth=4, signed=True, symmetric=True)
_LPBQ = replace(_INT4, block_size=32, decompressed_bits=8)
_WIDE_VALUES = {"matmul": {"other": QuantizationSpec(bitwidth=16, signed=True, symmetric=True)}}
_NARROW_VALUES = {"matmul": {"other": QuantizationSpec(bitwidth=8, signed=True, symmetric=True)}}
_WHOLE_CONVOLUTIONS = tuple(
    Rule(
        ops=ops,
        placement=Placement.INTEGER,
        output=OutputRule.ALWAYS,
        weight=replace(_INT4, channel_axis=axis),
        why="QNN-18: no kernel has blocks here, so its weight is int4 with a scale per channel",
    )
    for ops, axis in (
        (("conv1d", "conv2d", "conv3d"), 0),
        (("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), 1),
    )
)

QUALCOMM = Target(
    name="qualcomm",
    description="Qualcomm HTP (QNN), QDQ format, uint8 activations and int8 weights",
    activation=_UINT8,  # QNN-10: signed symmetric activations give wrong softmax, and many ops lack them
    weight=_INT8,  # QNN-13
    bias=BiasHandling.INT32,  # QNN-14: at scale_input * scale_weight exactly
    passes=("assign-outputs",),
    rewrites=("decompose-activations", "decompose-embedding", "decompose-group-norm", "insert-constants"),
    layer_rewrites=("decompose-biases",),  # QNN-17: blocks are a product's, which has no bias
    bounds_masks=True,  # else the softmax behind a mask, and what is around it, runs in half precision
    file=FileForm(opset=21, is_static=True, has_gemm=True),
    schemes={
        "w8a8": Scheme(activation=_UINT8, weight=_INT8, why="the default"),
        "w8a16": Scheme(
            activation=_UINT16,
            weight=_INT8,
            operands=_WIDE_VALUES,
            why="QNN-19: 16-bit products want a signed second operand; V73 and later",
        ),
        "w8a16-v68": Scheme(
            activation=_UINT16,
            weight=_INT8,
            operands=_NARROW_VALUES,
            why="QNN-19: V68 and V69 multiply 16-bit activations by 8-bit ones only",
        ),
        "w4a8": Scheme(activation=_UINT8, weight=_INT4, why="QNN-15: int4 per channel"),
        "w4a16": Scheme(
            activation=_UINT16, weight=_INT4, operands=_WIDE_VALUES, why="QNN-15: int4 per channel"
        ),
        "w4a8-lpbq": Scheme(
            activation=_UINT8,
            weight=_LPBQ,
            why="QNN-17: blocks of 32 on an 8-bit grid",
            rules=_WHOLE_CONVOLUTIONS,
        ),
        "w4a16-lpbq": Scheme(
            activation=_UINT16,
            weight=_LPBQ,
            operands=_WIDE_VALUES,
            why="QNN-17: blocks of 32 on an 8-bit grid",
            rules=_WHOLE_CONVOLUTIONS,
        ),
    },
    rules=(
        Rule(
            ops=(
                *("conv1d", "conv2d", "conv3d"),
                *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
                "linear",
            ),
            placement=Placement.INTEGER,
            output=OutputRule.ALWAYS,
            why="QNN-2: an integer kernel where input, weight and output are quantized",
        ),
        Rule(
            ops=("matmul",),
            placement=Placement.INTEGER,
            output=OutputRule.ALWAYS,
            why="QNN-2: an integer kernel, exact where real zero is the middle of the second operand's grid",
            operands={"other": replace(_UINT8, symmetric=True)},
        ),
        Rule(
            ops=("layer_norm",),
            placement=Placement.INTEGER,
            output=OutputRule.ALWAYS,
            weight=_UINT8,
            why="QNN-20: an integer kernel with a uint8 gain and an int32 shift",
        ),
        Rule(
            ops=(
                *("add", "sub", "mul", "div", "maximum", "minimum", "pow"),
                *("abs", "floor", "round", "neg", "sin", "cos", "exp", "sqrt"),
                *("sigmoid", "hard_sigmoid", "tanh", "hard_swish", "gelu", "elu", "leaky_relu", "softplus"),
                *("softmax", "log_softmax"),
                *("avg_pool", "adaptive_avg_pool", "mean", "sum", "amax", "amin"),
                *("cat", "grid_sample", "where", "masked_fill"),
            ),
            placement=Placement.INTEGER,
            output=OutputRule.ALWAYS,
            why="QNN-1: an integer kernel where every input and output is quantized",
        ),
        Rule(
            ops=(
                *("max_pool", "adaptive_max_pool", "reshape", "flatten", "transpose", "squeeze", "expand"),
                *("split", "getitem", "select", "copy", "repeat_interleave", "pixel_shuffle"),
                *("pixel_unshuffle", "channel_shuffle", "identity", "dropout", "index_select"),
            ),
            placement=Placement.COPY,
            why="QNN-9: moves integers where output and input lie on one grid",
        ),
        Rule(
            ops=("embedding",),
            placement=Placement.INTEGER,
            output=OutputRule.ALWAYS,
            shares_range=True,
            why="QNN-9: picks integers from a table whose grid its output has",
        ),
        Rule(
            ops=("interpolate", "pad", "stack"),
            placement=Placement.COPY,
            shares_range=True,
            why="QNN-9: moves integers where output and input lie on one grid",
        ),
        Rule(
            ops=("relu", "relu6", "clamp"),
            placement=Placement.EPILOGUE,
            why="QNN-4: fuses where the quantizer behind it clips the same values",
        ),
    ),
)
