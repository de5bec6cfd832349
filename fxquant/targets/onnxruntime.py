"""ONNX Runtime's CPU provider: uint8 activations, int8 weights, quantizers on both sides of integer ops."""

from fxquant.quantization import QuantizationSpec
from fxquant.targets.target import BiasHandling, OutputRule, Placement, Rule, Target

ONNXRUNTIME = Target(
    name="onnxruntime",
    description="ONNX Runtime CPU, QDQ format, uint8 activations and int8 weights",
    activation=QuantizationSpec(bitwidth=8, signed=False, symmetric=False),
    weight=QuantizationSpec(bitwidth=8, signed=True, symmetric=True, narrow=True),
    bias=BiasHandling.INT32,  # fused kernels add it to the accumulator and ignore any other scale
    passes=("assign-outputs",),
    rules=(
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
