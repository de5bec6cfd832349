"""For each acceptance rule of TensorRT a model that breaks it, the node where, and a model that does not."""

import numpy as np
from onnx import TensorProto

from tests.lint.net import Net


def convolution(net, x, name="conv", inputs=16, outputs=16, kernel=3, code="s8", **options):
    """A quantized convolution of a quantized tensor, padded, with a stored weight."""
    weight = net.stored(f"{name}.weight", outputs, inputs, kernel, kernel, code=code, **options)
    return net.op("Conv", x, weight, name=name, pads=[kernel // 2] * 4)


def good():
    """A convolution as TensorRT wants it, of an input of 8 x 8 pixels."""
    net = Net()
    x = net.pair(net.input(1, 16, 8, 8))
    return net.build(convolution(net, x))


def zero_point():
    net = Net()
    x = net.pair(net.input(1, 16, 8, 8), zero=3, name="x_q")
    return net.build(convolution(net, x))


def unsigned():
    net = Net()
    x = net.pair(net.input(1, 16, 8, 8), zero=0, code="u8", name="x_q")
    return net.build(convolution(net, x))


def no_zero_point():
    net = Net()
    x = net.dq(net.q(net.input(1, 16, 8, 8), zero=None, name="x_q"), zero=None)
    return net.build(convolution(net, x))


def negative_scale():
    net = Net()
    x = net.pair(net.input(1, 16, 8, 8), scale=-0.05, name="x_q")
    return net.build(convolution(net, x))


def volumes_differ():
    net = Net()
    net.const("w", net.random.integers(-9, 9, (16, 16, 3, 3)), "s8")
    scale = net.const("w_scale", net.random.uniform(0.01, 0.02, 16).astype(np.float32))
    weight = net.op("DequantizeLinear", "w", scale, net.const("zero", 0, "s8"), name="w_dq", axis=0)
    return net.build(net.op("Conv", net.pair(net.input(1, 16, 8, 8)), weight, name="conv"))


def scales_do_not_fit():
    net = Net()
    net.const("w", net.random.integers(-9, 9, (16, 8, 3, 3)), "s8")
    weight = net.dq("w", np.full(7, 0.1), code="s8", name="w_dq", axis=0)
    return net.build(net.op("Conv", net.pair(net.input(1, 8, 8, 8)), weight, name="conv"))


def no_axis():
    net = Net()
    net.const("w", net.random.integers(-9, 9, (16, 16)), "s8")
    weight = net.dq("w", net.random.uniform(0.01, 0.02, 16), code="s8", name="w_dq")
    return net.build(net.op("MatMul", net.pair(net.input(32, 16)), weight, name="product"))


def activation_per_channel():
    net = Net()
    scale = net.random.uniform(0.01, 0.02, 16)
    x = net.pair(net.input(1, 16, 8, 8), scale=scale, axis=1, name="x_q")
    return net.build(convolution(net, x))


def bias_int32():
    net = Net()
    x = net.pair(net.input(1, 16, 8, 8))
    weight = net.stored("w", 16, 16, 3, 3)
    net.const("b", net.random.integers(-900, 900, 16), "s32")
    bias = net.dq("b", net.random.uniform(0.001, 0.002, 16), zero=None, name="b_dq", axis=0)
    return net.build(net.op("Conv", x, weight, bias, name="conv"))


def bias_int8():
    net = Net()
    x = net.pair(net.input(1, 16, 8, 8))
    bias = net.stored("b", 16, scale=0.02)
    return net.build(net.op("Conv", x, net.stored("w", 16, 16, 3, 3), bias, name="conv"))


def bias_float():
    net = Net()
    x = net.pair(net.input(1, 16, 8, 8))
    return net.build(net.op("Conv", x, net.stored("w", 16, 16, 3, 3), net.floats("b", 16), name="conv"))


def dynamic():
    net = Net()
    net.op("DynamicQuantizeLinear", net.input(4, 16), outputs=3, name="x_q")
    return net.build(net.op("DequantizeLinear", "x_q", "x_q_1", "x_q_2", name="y"))


def old_opset(opset=12):
    net = Net(opset)
    weight = net.stored("w", 16, 16, 3, 3)
    return net.build(net.op("Conv", net.pair(net.input(1, 16, 8, 8)), weight, name="conv"))


def odd_elements(columns=5):
    net = Net()
    weight = net.stored("w", 5, columns, code="s4", scale=0.1)
    return net.build(net.op("MatMul", net.input(2, 5), weight, name="product"))


def blocks(code="s8"):
    net = Net()
    net.const("w", net.random.integers(-7, 7, (32, 16)), code)
    scale = net.random.uniform(0.01, 0.02, (2, 16))
    weight = net.dq("w", scale, code=code, name="w_dq", axis=0, block_size=16)
    return net.build(net.op("MatMul", net.input(4, 32), weight, name="product"))


def int4_convolution():
    net = Net()
    return net.build(convolution(net, net.pair(net.input(1, 16, 8, 8)), code="s4"))


def half_scale(data=TensorProto.FLOAT):
    net = Net()
    x = net.input(1, 16, dtype=data)
    scale = net.const("s", np.float16(0.1))
    codes = net.op("QuantizeLinear", x, scale, net.const("z", 0, "s8"), name="x_q")
    net.op("DequantizeLinear", codes, "s", "z", name="y")
    return net.build(net.op("Cast", "y", to=TensorProto.FLOAT, name="z_out"))


def raw_weight():
    net = Net()
    net.const("w", net.random.integers(-9, 9, (16, 16)), "s8")
    return net.build(net.op("MatMul", net.input(4, 16), "w", name="product"))


def weight_only(code="s8"):
    net = Net()
    weight = net.stored("w", 16, 16, axis=1, code=code)
    return net.build(net.op("MatMul", net.input(32, 16), weight, name="product"))


def codes_reshaped(directly=True):
    net = Net()
    codes = net.q(net.input(1, 16, 4, 4))
    shape = net.const("shape", np.array([1, 256]))
    if directly:
        return net.build(net.dq(net.op("Reshape", codes, shape, name="moved")))
    return net.build(net.op("Reshape", net.dq(codes), shape, name="moved"))


def scalar(*shape):
    net = Net()
    return net.build(net.op("Relu", net.pair(net.input(*shape), name="x_q")))


def computed_weight(stored=False):
    net = Net()
    weight = net.floats("w", 16, 16, 3, 3) if stored else net.input(16, 16, 3, 3, name="w")
    return net.build(net.op("Conv", net.input(1, 16, 8, 8), weight, name="conv"))


# rule, breaks it, node, does not break it
ACCEPTANCE = [
    ("A01", zero_point, "x_q", good),
    ("A02", unsigned, "x_q", good),
    ("A03", no_zero_point, "x_q", good),
    ("A04", negative_scale, "x_q", good),
    ("A05", volumes_differ, "w_dq", good),
    ("A06", scales_do_not_fit, "w_dq", good),
    ("A07", no_axis, "w_dq", good),
    ("A08", activation_per_channel, "x_q", good),
    ("A09", bias_int32, "b_dq", bias_float),
    ("A09", bias_int8, "b_dq", bias_float),
    ("A10", dynamic, "x_q", good),
    ("A11", old_opset, "w_dq", lambda: old_opset(13)),
    ("A11", lambda: old_opset(25), "", lambda: old_opset(24)),
    ("A12", odd_elements, "w_dq", lambda: odd_elements(6)),
    ("A13", blocks, "w_dq", lambda: blocks("s4")),
    ("A14", int4_convolution, "conv", lambda: blocks("s4")),
    ("A15", half_scale, "x_q", lambda: half_scale(TensorProto.FLOAT16)),
    ("A16", raw_weight, "product", good),
    ("A17", weight_only, "product", lambda: weight_only("s4")),
    ("A18", codes_reshaped, "moved", lambda: codes_reshaped(directly=False)),
    ("A19", scalar, "x_q", lambda: scalar(4)),
    ("A20", computed_weight, "conv", lambda: computed_weight(stored=True)),
]
