"""The integer kernels of ONNX Runtime's CPU provider, bit for bit; and the simulation in float.

Measured against onnxruntime 1.31 on x86-64 with AVX-512: see docs/arithmetic.md.
"""

from fxquant.arithmetic.arithmetic import Arithmetic, KernelRule
from fxquant.arithmetic.elementwise import add, multiply
from fxquant.arithmetic.lookup import sigmoid
from fxquant.arithmetic.pooling import adaptive_average_pool, average_pool
from fxquant.arithmetic.product import Product
from fxquant.arithmetic.requantize import requantize
from fxquant.arithmetic.softmax import softmax
from fxquant.arithmetic.weighted import Linear, Weighted

FLOAT = Arithmetic(name="float", description="float32 between quantizers: fast, and trainable")

INTEGER = Arithmetic(
    name="integer",
    description="ONNX Runtime's fused CPU kernels, bit for bit",
    rules=(
        KernelRule(
            ops=("conv1d", "conv2d", "conv3d"),
            formula=Weighted(requantize=requantize),
            why="QLinearConv: an int32 accumulator times a float32 multiplier",
        ),
        KernelRule(
            ops=("linear",),
            formula=Linear(requantize=requantize),
            gives_real=True,
            why="QGemm: an int32 accumulator times a float32 multiplier",
        ),
        KernelRule(
            ops=("matmul",),
            formula=Product(requantize=requantize),
            gives_real=True,
            takes_channels=True,
            why="QLinearMatMul and MatMulIntegerToFloat: as Conv",
        ),
        KernelRule(ops=("add",), formula=add, why="QLinearAdd: fused multiply-adds of codes"),
        KernelRule(ops=("mul",), formula=multiply, why="QLinearMul: rounds with the zero point added"),
        KernelRule(ops=("avg_pool",), formula=average_pool, why="QLinearAveragePool: a mean in float32"),
        KernelRule(
            ops=("adaptive_avg_pool",),
            formula=adaptive_average_pool,
            why="QLinearGlobalAveragePool sums integers; over windows, QLinearAveragePool",
        ),
        KernelRule(ops=("softmax",), formula=softmax, why="QLinearSoftmax: a table of exponentials"),
        KernelRule(ops=("sigmoid",), formula=sigmoid, why="QLinearSigmoid: a table of 256 codes"),
        KernelRule(
            ops=("cat", "leaky_relu"),
            why="QLinearConcat and QLinearLeakyRelu: tables of what the float simulation computes",
        ),
        KernelRule(
            ops=("relu", "relu6", "clamp"),
            is_epilogue=True,
            why="Relu and Clip vanish where the quantizer behind them clips the same values",
        ),
    ),
)
