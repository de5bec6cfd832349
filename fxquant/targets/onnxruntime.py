"""ONNX Runtime's CPU provider: uint8 activations, int8 weights, quantizers on both sides of integer ops."""

from dataclasses import replace

from fxquant.quantization import QuantizationSpec
from fxquant.targets.target import BiasHandling, FileForm, OutputRule, Placement, Rule, Scheme, Target

_UINT8 = QuantizationSpec(bitwidth=8, signed=False, symmetric=False)
_INT8 = QuantizationSpec(bitwidth=8, signed=True, symmetric=True, narrow=True)
_INT4 = QuantizationSpec(bitwidth=4, signed=True, symmetric=True, block_size=32)

ONNXRUNTIME = Target(
    name="onnxruntime",
    description="ONNX Runtime CPU, QDQ format, uint8 activations and int8 weights",
    activation=_UINT8,
    weight=_INT8,
    bias=BiasHandling.INT32,  # fused kernels add it to the accumulator and ignore any other scale
    passes=("assign-outputs",),
    file=FileForm(has_gemm=True, gathers_codes=True),
    schemes={
        "w8a8": Scheme(activation=_UINT8, weight=_INT8, why="the default"),
        "w8a16": Scheme(
            activation=replace(_UINT8, bitwidth=16), weight=_INT8, why="for accuracy: float kernels"
        ),
        "w4a8": Scheme(
            activation=_UINT8,
            weight=replace(_INT4, block_size=None),
            why="for size: int4 per channel, float kernels for what has weights",
        ),
        "w4a16": Scheme(
            activation=replace(_UINT8, bitwidth=16),
            weight=_INT4,
            why="for size and accuracy: int4 in blocks of 32, float kernels",
        ),
        "w4": Scheme(activation=None, weight=_INT4, why="weights alone, in blocks of 32: MatMulNBits"),
    },
    rules=(
        Rule(
            ops=("embedding",),
            placement=Placement.INTEGER,
            weight=replace(_INT8, channel_axis=0),
            why="its rows are stored as integers with a scale each",
        ),
        Rule(
            ops=("conv1d", "conv2d", "conv3d"),
            placement=Placement.INTEGER,
            output=OutputRule.ALWAYS,
            why="fuses into QLinearConv when input, weight and output are quantized",
        ),
        Rule(
            ops=("linear", "matmul"),
            placement=Placement.INTEGER,
            output=OutputRule.ALWAYS,
            is_float_at_graph_output=True,
            why="fuses into QGemm or QLinearMatMul, which can also hand out float",
        ),
        Rule(
            ops=(
                "add",
                "mul",
                "avg_pool",
                "adaptive_avg_pool",
                "cat",
                "join_groups",
                "sigmoid",
                "softmax",
                "leaky_relu",
            ),
            placement=Placement.INTEGER,
            output=OutputRule.ALWAYS,
            why="has a QLinear kernel",
        ),
        Rule(
            ops=(
                "max_pool",
                "reshape",
                "flatten",
                "transpose",
                "squeeze",
                "expand",
                "split",
                "split_groups",
                "getitem",
                "select",
                "copy",
                "repeat_interleave",
                "pixel_shuffle",
                "channel_shuffle",
            ),
            placement=Placement.COPY,
            why="runs on integers as it is when its output lies on the grid of its input",
        ),
        Rule(
            ops=("relu", "relu6", "clamp"),
            placement=Placement.EPILOGUE,
            why="is removed where the quantizer behind it clips the same values",
        ),
    ),
)
