"""For each placement rule of TensorRT a model that breaks it, the node where, and a model that does not."""

import numpy as np
from onnx import TensorProto, helper

from tests.lint.net import Net
from tests.lint.tensorrt_acceptance_cases import convolution, good


def float_weight():
    net = Net()
    x = net.pair(net.input(1, 16, 8, 8))
    return net.build(net.op("Conv", x, net.floats("w", 16, 16, 3, 3), name="conv"))


def weight_per_tensor():
    net = Net()
    return net.build(convolution(net, net.pair(net.input(1, 16, 8, 8)), scale=0.01))


def activation(inside=True, kind="Relu"):
    net = Net()
    y = convolution(net, net.pair(net.input(1, 16, 8, 8)))
    y = net.op(kind, net.pair(y, 0.1) if inside else y, name="act")
    return net.build(net.pair(y, 0.2))


def bias_after_product(inside=True):
    net = Net()
    product = net.op("MatMul", net.pair(net.input(32, 16)), net.stored("w", 16, 16, axis=1), name="product")
    product = net.pair(product) if inside else product
    return net.build(net.op("Add", product, net.floats("b", 16), name="sum"))


def normalization(inside=True):
    net = Net()
    y = convolution(net, net.pair(net.input(1, 16, 8, 8)))
    y = net.pair(y) if inside else y
    statistics = [net.const(f"n{index}", np.ones(16, np.float32)) for index in range(4)]
    return net.build(net.op("BatchNormalization", y, *statistics, name="norm"))


def residual(left=False, right=True):
    """A block whose convolution is on the left of its add; True: that input is quantized."""
    net = Net()
    x = net.pair(net.input(1, 16, 8, 8))
    shared = net.op("Relu", convolution(net, x, "first"), name="shared")
    read = net.pair(shared)
    branch = convolution(net, read, "branch")
    shortcut = read if right else shared
    return net.build(net.op("Add", net.pair(branch) if left else branch, shortcut, name="sum"))


def two_branches(long_is_float=True):
    net = Net()
    x = net.pair(net.op("Relu", convolution(net, net.pair(net.input(1, 16, 8, 8)), "first"), name="shared"))
    middle = net.op("Relu", convolution(net, x, "a1"), name="middle")
    long, short = convolution(net, net.pair(middle), "a2"), convolution(net, x, "b")
    long, short = (long, net.pair(short)) if long_is_float else (net.pair(long), short)
    return net.build(net.op("Add", long, short, name="sum"))


def factor(quantized=True):
    net = Net()
    x = net.input(1, 16)
    y = net.op("Mul", net.pair(x) if quantized else x, net.const("two", np.float32(2)), name="twice")
    return net.build(net.pair(y))


def pool(quantized=False):
    net = Net()
    y = net.op("GlobalAveragePool", net.pair(net.input(1, 16, 4, 4)), name="pool")
    return net.build(net.op("Sin", net.pair(y) if quantized else y))


def copied(scale=0.1):
    net = Net()
    y = net.op("MaxPool", net.pair(net.input(1, 16, 8, 8)), kernel_shape=[2, 2], name="pool")
    return net.build(convolution(net, net.pair(y, scale)))


def concatenation(left=0.05, right=0.1):
    net = Net()
    x = net.input(1, 16, 4, 4)
    joined = net.op("Concat", net.pair(x, left), net.pair(net.op("Relu", x), right), name="joined", axis=1)
    return net.build(convolution(net, net.pair(joined, right), inputs=32))


def two_quantizers(second=0.05, shortcut=False):
    net = Net()
    x = net.input(1, 16, 8, 8)
    first = net.op("Relu", convolution(net, net.pair(x, name="q1"), "left"))
    other = net.pair(x, second, name="q2")
    other = other if shortcut else convolution(net, other, "right")
    return net.build(net.op("Add", convolution(net, net.pair(first), "last"), other, name="sum"))


def output(kind="Add", quantized=True):
    net = Net()
    x = net.input(1, 16, 4, 4)
    read = net.pair(x) if quantized else x
    return net.build(
        net.op(kind, read, net.op("Neg", x) if not quantized else net.pair(net.op("Neg", x)), name="y")
    )


def product(depth=8, columns=32):
    net = Net()
    weight = net.stored("w", depth, columns, axis=1)
    return net.build(net.op("MatMul", net.pair(net.input(32, depth)), weight, name="product"))


def small_convolution(inputs=4, outputs=4):
    net = Net()
    return net.build(convolution(net, net.pair(net.input(1, inputs, 8, 8)), inputs=inputs, outputs=outputs))


def float8_convolution(channels=16):
    net = Net()
    net.constants.append(_float8(net, "w", channels, channels, 3, 3))
    scale = net.const("s", np.float32(0.1))
    weight = net.op("DequantizeLinear", "w", scale, name="w_dq")
    return net.build(net.op("Conv", net.input(1, channels, 8, 8), weight, name="conv"))


def _float8(net, name, *shape):
    values = net.random.standard_normal(shape).reshape(-1).tolist()
    return helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, shape, values)


def depthwise(groups=16):
    net = Net()
    weight = net.stored("w", 16, 16 // groups, 3, 3)
    return net.build(net.op("Conv", net.pair(net.input(1, 16, 8, 8)), weight, name="conv", group=groups))


def normalized(kind="LayerNormalization", quantized=True):
    net = Net()
    x = net.input(4, 16)
    read = net.pair(x) if quantized else x
    more = [net.const("g", np.ones(16, np.float32))] if kind == "LayerNormalization" else []
    return net.build(net.op(kind, read, *more, name="norm"))


def normalized_after_convolution(between="Transpose"):
    net = Net()
    y = convolution(net, net.pair(net.input(1, 16, 8, 8)))
    y = net.op("Sin", y) if between == "Sin" else y
    y = net.pair(net.op("Transpose", y, perm=[0, 2, 3, 1]))
    return net.build(net.op("LayerNormalization", y, net.const("g", np.ones(16, np.float32)), name="norm"))


def shared_by_branch_and_add():
    """A convolution whose quantized output goes to an add and to what is added to it, as in ConvNeXt."""
    net = Net()
    x = net.pair(convolution(net, net.pair(net.input(1, 16, 8, 8)), "stem"))
    branch = net.op("Sin", convolution(net, x, "branch"))
    return net.build(net.op("Add", branch, x, name="sum"))


def attention(keys_late=True, softmax=True, mask=False):
    net = Net()
    q, k, v = (net.input(1, 2, 32, 16, name=name) for name in "qkv")
    if keys_late:
        keys = net.op("Transpose", net.pair(k), perm=[0, 1, 3, 2], name="turned")
    else:
        keys = net.pair(net.op("Transpose", k, perm=[0, 1, 3, 2], name="turned"))
    scores = net.op("MatMul", net.pair(q), keys, name="scores")
    scores = net.pair(scores, 0.2, name="scores_q") if mask else scores
    weights = net.op("Softmax", scores, name="weights")
    weights = net.pair(weights, 1 / 127) if softmax else weights
    return net.build(net.op("MatMul", weights, net.pair(v), name="mixed"))


def pool_beside(quantized=False):
    net = Net()
    x = net.op("Relu", convolution(net, net.pair(net.input(1, 16, 8, 8)), "stem"), name="stem_relu")
    read = net.pair(x)
    pooled = net.op("GlobalAveragePool", read if quantized else x, name="pool")
    return net.build(net.op("Add", convolution(net, read, "after"), net.pair(pooled), name="sum"))


def gate(both=False):
    net = Net()
    x = net.op("Relu", convolution(net, net.pair(net.input(1, 16, 8, 8)), "stem"), name="stem_relu")
    read = net.pair(x)
    pooled = net.op("GlobalAveragePool", read, name="pool")
    squeezed = convolution(net, net.pair(pooled), "squeeze", kernel=1)
    opened = net.op("Sigmoid", squeezed, name="opened")
    product = net.op("Mul", read, net.pair(opened) if both else opened, name="gated")
    return net.build(convolution(net, net.pair(product), "after"))


def silu(inside=True):
    net = Net()
    y = convolution(net, net.pair(net.input(1, 16, 8, 8)))
    y = net.pair(y) if inside else y
    return net.build(net.pair(net.op("Mul", y, net.op("Sigmoid", y), name="silu")))


def resize(quantized=False):
    net = Net()
    y = net.op("Relu", convolution(net, net.pair(net.input(1, 16, 8, 8))), name="act")
    y = net.pair(y) if quantized else y
    scales = net.const("scales", np.array([1, 1, 2, 2], np.float32))
    return net.build(net.op("Erf", net.op("Resize", y, "", scales, name="up", mode="nearest")))


def transposed(scale=None, groups=1):
    net = Net()
    weight = net.stored("w", 16, 16 // groups, 2, 2, axis=1, scale=scale)
    x = net.pair(net.input(1, 16, 8, 8))
    return net.build(net.op("ConvTranspose", x, weight, name="deconv", group=groups))


def weight_axis(axis=1):
    net = Net()
    return net.build(convolution(net, net.pair(net.input(1, 16, 8, 8)), axis=axis))


def lowest_code(code=-128):
    net = Net()
    codes = net.random.integers(-127, 128, (16, 16))
    codes[0, 0] = code
    net.const("w", codes, "s8")
    weight = net.dq("w", np.full(16, 0.1) + np.arange(16) / 100, name="w_dq", axis=1)
    return net.build(net.op("MatMul", net.pair(net.input(32, 16)), weight, name="product"))


def islands(kind="Sin"):
    net = Net()
    return net.build(net.pair(net.op(kind, net.pair(net.input(1, 16)), name="island")))


def chained():
    net = Net()
    return net.build(convolution(net, net.pair(net.pair(net.input(1, 16, 8, 8)), 0.1, name="again")))


def silu_add(activation="silu"):
    net = Net()
    read = net.pair(net.input(1, 16, 8, 8))
    y = convolution(net, read)
    y = net.op("Mul", y, net.op("Sigmoid", y)) if activation == "silu" else net.op("Relu", y)
    return net.build(net.op("Add", y, read, name="sum"))


def one_sided(kind="Relu"):
    net = Net()
    return net.build(net.pair(net.op(kind, net.input(1, 16))))


# rule, breaks it, node, does not break it
PLACEMENT = [
    ("P01", float_weight, "conv", good),
    ("P01", weight_per_tensor, "conv", good),
    ("P02", activation, "conv", lambda: activation(inside=False)),
    ("P02", lambda: activation(kind="HardSwish"), "conv", lambda: activation(inside=False, kind="HardSwish")),
    ("P02", bias_after_product, "product", lambda: bias_after_product(inside=False)),
    ("P03", normalization, "conv", lambda: normalization(inside=False)),
    ("P04", lambda: residual(left=True), "sum", residual),
    ("P04", lambda: residual(right=False), "sum", residual),
    ("P04", lambda: residual(left=True, right=False), "sum", residual),
    ("P04", lambda: residual(left=True), "sum", shared_by_branch_and_add),
    ("P05", lambda: two_branches(long_is_float=False), "sum", two_branches),
    ("P06", factor, "twice", lambda: factor(quantized=False)),
    ("P07", pool, "pool", lambda: pool(quantized=True)),
    ("P08", copied, "pool", lambda: copied(scale=0.05)),
    ("P09", concatenation, "joined", lambda: concatenation(0.1, 0.1)),
    ("P10", two_quantizers, "q1", good),
    ("P10", lambda: two_quantizers(0.07), "q1", good),
    ("P11", output, "y", lambda: output(quantized=False)),
    ("P12", product, "product", lambda: product(depth=16)),
    ("P12", lambda: product(depth=16, columns=1), "product", lambda: product(depth=16)),
    ("P13", small_convolution, "conv", lambda: small_convolution(3, 16)),
    ("P14", float8_convolution, "conv", lambda: float8_convolution(32)),
    ("P15", depthwise, "conv", lambda: depthwise(groups=1)),
    ("P15", pool, "pool", good),
    ("P16", normalized, "norm", lambda: normalized(quantized=False)),
    ("P16", lambda: normalized("Softmax"), "norm", lambda: normalized("Softmax", quantized=False)),
    ("P16", lambda: normalized_after_convolution("Sin"), "norm", normalized_after_convolution),
    ("P17", attention, "scores", lambda: attention(keys_late=False)),
    ("P17", lambda: attention(keys_late=False, softmax=False), "scores", lambda: attention(keys_late=False)),
    ("P17", lambda: attention(keys_late=False, mask=True), "scores_q", lambda: attention(keys_late=False)),
    ("P18", gate, "gated", lambda: gate(both=True)),
    ("P18", silu, "silu", lambda: silu(inside=False)),
    ("P19", resize, "up", lambda: resize(quantized=True)),
    ("P20", transposed, "deconv", lambda: transposed(scale=0.01)),
    ("P20", lambda: transposed(scale=0.01, groups=2), "deconv", lambda: transposed(scale=0.01)),
    ("P21", weight_axis, "conv", lambda: weight_axis(axis=0)),
    ("P22", lowest_code, "w_dq", lambda: lowest_code(-127)),
    ("P23", islands, "", good),
    ("P24", islands, "island", lambda: islands("Identity")),
    ("P24", pool_beside, "pool", lambda: pool_beside(quantized=True)),
    ("P25", chained, "again", good),
    ("P27", silu_add, "sum", lambda: silu_add("relu")),
    ("P28", lambda: two_quantizers(0.07, shortcut=True), "q1", lambda: two_quantizers(0.05, shortcut=True)),
    ("P29", one_sided, "", lambda: one_sided("Neg")),
]
