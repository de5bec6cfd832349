"""Any runtime of QDQ ONNX: uint8 activations, int8 weights per channel, float biases, nothing fused."""

from fxquant.quantization import QuantizationSpec
from fxquant.targets.target import BiasHandling, OutputRule, Placement, Rule, Target

GENERIC = Target(
    name="generic",
    description="QDQ ONNX for no runtime in particular, uint8 activations and int8 weights",
    activation=QuantizationSpec(bitwidth=8, signed=False, symmetric=False),
    weight=QuantizationSpec(bitwidth=8, signed=True, symmetric=True, narrow=True),
    bias=BiasHandling.FLOAT,
    passes=("assign-outputs",),
    rules=(
        Rule(
            ops=("conv1d", "conv2d", "conv3d", "linear", "matmul", "add", "mul", "cat"),
            placement=Placement.INTEGER,
            output=OutputRule.ALWAYS,
            why="has an integer form everywhere",
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
                "getitem",
                "select",
                "copy",
                "repeat_interleave",
            ),
            placement=Placement.COPY,
            why="moves or picks values: its output lies on the grid of its input",
        ),
        Rule(
            ops=("relu", "relu6", "clamp"),
            placement=Placement.EPILOGUE,
            why="is removed where the quantizer behind it clips the same values",
        ),
    ),
)
