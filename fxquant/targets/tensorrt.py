"""TensorRT with explicit quantization: symmetric int8, consumers decide, nothing inside a fused epilogue.

The rule numbers (P01 ...) are those of the placement rules in docs/tensorrt.md.
"""

from fxquant.quantization import QuantizationSpec
from fxquant.quantization.float import FloatType
from fxquant.targets.target import BiasHandling, OutputRule, Placement, Rule, Scheme, Target
from fxquant.targets.tensorrt_sizes import grouped_convolution, small_convolution, small_product

_INT8 = QuantizationSpec(bitwidth=8, signed=True, symmetric=True)
_WEIGHT = QuantizationSpec(bitwidth=8, signed=True, symmetric=True, narrow=True)
_FLOAT8 = QuantizationSpec(float_type=FloatType.of_onnx("float8e4m3fn"))
_INT4 = QuantizationSpec(bitwidth=4, block_size=128)
_CONVOLUTIONS = (
    *("conv1d", "conv2d", "conv3d"),
    *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
)

TENSORRT = Target(
    name="tensorrt",
    description="NVIDIA TensorRT, explicit quantization (Q/DQ), int8",
    activation=_INT8,  # zero point 0 everywhere: TensorRT rejects any other
    weight=_WEIGHT,  # [-127, 127], one scale per output channel
    bias=BiasHandling.FLOAT,  # A09: an int32 DequantizeLinear is rejected
    passes=("assign-small-layers", "legalize-inputs", "assign-residual-branches", "legalize-outputs"),
    rewrites=("canonicalize-pools",),
    schemes={
        "int8": Scheme(activation=_INT8, weight=_WEIGHT, why="the default"),
        "fp8": Scheme(
            activation=_FLOAT8,
            weight=_FLOAT8,
            why="float8 e4m3 with scales, from Ada and Hopper on: A02, P14",
        ),
        "w4": Scheme(
            activation=None,
            weight=_INT4,
            floats=dict.fromkeys(_CONVOLUTIONS, "A14: 4-bit weights are for matrix products"),
            why="weights of matrix products alone, in blocks of 128: A12, A13, A14",
        ),
    },
    rules=(
        Rule(
            ops=("conv1d", "conv2d", "conv3d"),
            placement=Placement.INTEGER,
            fuses_residual=True,
            limit=small_convolution,
            why="P01: weighted ops read int8; P02: their output stays float up to the end of the epilogue",
        ),
        Rule(
            ops=("linear", "matmul"),
            placement=Placement.INTEGER,
            limit=small_product,
            why="P01: weighted ops read int8; P02: their output stays float up to the end of the epilogue",
        ),
        Rule(
            ops=("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
            placement=Placement.INTEGER,
            fuses_residual=True,
            weight=_WEIGHT,
            limit=grouped_convolution,
            why="P20: a transposed convolution takes one weight scale per tensor",
        ),
        Rule(
            ops=("add",),
            placement=Placement.INTEGER,
            output=OutputRule.WHEN_NEEDED,
            is_residual=True,
            allows_constants=False,
            why="P04: an add fuses into the convolution that feeds it, whose branch is float; else P07",
        ),
        Rule(
            ops=("mul", "avg_pool", "adaptive_avg_pool"),
            placement=Placement.INTEGER,
            output=OutputRule.WHEN_NEEDED,
            allows_constants=False,
            why="P07: an op without weights that reads int8 hands out int8 only",
        ),
        Rule(
            ops=("interpolate",),
            placement=Placement.INTEGER,
            follows_layer=True,
            why="P19: behind a convolution it reads int8, so that the tensor between is not written in float",
        ),
        Rule(
            ops=("cat",),
            placement=Placement.COPY,
            shares_range=True,
            why="P09: a concatenation costs nothing when inputs and output share one scale",
        ),
        Rule(
            ops=(
                "max_pool",
                "adaptive_max_pool",
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
                "pixel_shuffle",
                "channel_shuffle",
                "identity",
                "dropout",
            ),
            placement=Placement.COPY,
            why="P08: TensorRT moves a Q or DQ across ops that copy values",
        ),
        Rule(
            ops=(
                "relu",
                "relu6",
                "clamp",
                "leaky_relu",
                "sigmoid",
                "silu",
                "hard_swish",
                "hard_sigmoid",
                "tanh",
            ),
            placement=Placement.EPILOGUE,
            why="P02: an activation fuses into the layer before it",
        ),
    ),
)
