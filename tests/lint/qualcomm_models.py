"""Small models for HTP: each function gives a net and the name of its output."""

import numpy as np

from tests.lint.measured_net import MeasuredNet


def unary(kind, code="u8", opset=21, positive=False, **attributes):
    net = MeasuredNet(opset)
    x = net.start(1, 8, 6, 6, code=code)
    if positive:
        x = net.on_grid(net.op("Sigmoid", x), code)
    return net, net.on_grid(net.op(kind, x, name="op", **attributes), code)


def identity_of_float():
    net = MeasuredNet()
    x = net.start(1, 8, 6, 6)
    net.op("Relu", x, name="op")
    return net, "op"


def clip_after_convolution(code):
    net, y = convolution(code=code)
    low, high = net.const("low", np.float32(0)), net.const("high", np.float32(6))
    return net, net.on_grid(net.op("Clip", y, low, high, name="act"), code)


def convolution(
    code="u8",
    weight="s8",
    axis=0,
    bias=None,
    out=None,
    kernel=3,
    scale=None,
    zero=0,
    factor=1.0,
    **attributes,
):
    """Conv of 8 to 8 channels, then its quantizer unless out is "float"."""
    net = MeasuredNet()
    x = net.start(1, 8, 6, 6, code=code)
    w = net.stored("w", 8, 8, kernel, kernel, code=weight, axis=axis, scale=scale, zero=zero)
    more = []
    if bias == "float":
        more = [net.floats("b", 8)]
    elif bias == "int32":
        more = [net.bias("b", 8, x, w, factor=factor)]
    elif bias == "coarse":
        factor = np.float32(np.mean(net.stored_scale(w))) / net.stored_scale(w)
        net.const("b", net.random.integers(-200000, 200000, 8), "s32")
        one = np.float32(net.grids[x][0]) * np.float32(np.mean(net.stored_scale(w)))
        more = [net.dq("b", one, zero=None, name="b_dq")]
    elif bias == "int8":
        more = [net.stored("b", 8, scale=0.02)]
    y = net.op("Conv", x, w, *more, name="op", pads=[kernel // 2] * 4, **attributes)
    return net, y if out == "float" else net.on_grid(y, out or code)


def float_weight(kind="Conv", code="u16"):
    net = MeasuredNet()
    if kind == "Conv":
        x = net.start(1, 8, 6, 6, code=code)
        return net, net.on_grid(net.op("Conv", x, net.floats("w", 8, 8, 3, 3), name="op"), code)
    x = net.start(4, 32, code=code)
    return net, net.on_grid(net.op("MatMul", x, net.floats("w", 32, 16), name="op"), code)


def product(code="u8", weight="s8", axis=1, opset=21, **options):
    net = MeasuredNet(opset)
    x = net.start(4, 32, code=code)
    w = net.stored("w", 32, 16, code=weight, axis=axis, **options)
    return net, net.on_grid(net.op("MatMul", x, w, name="op"), code)


def dense(code="u8", weight="s8", **options):
    net = MeasuredNet()
    x = net.start(4, 32, code=code)
    w = net.stored("w", 16, 32, code=weight, **options)
    return net, net.on_grid(net.op("Gemm", x, w, name="op", transB=1), code)


def two_activations(left="u16", right="u16", positive=False):
    net = MeasuredNet()
    x = net.start(1, 2, 8, 16, code=left)
    y = net.start(1, 2, 16, 8, code=right, name="y")
    y = net.on_grid(net.op("Sigmoid", y), right) if positive else y
    return net, net.on_grid(net.op("MatMul", x, y, name="op"), left)


def blocks(code="u16", weight="s4", kind="MatMul", bias=False, kernel=1, size=16):
    """A weight with float scales per block of the inputs."""
    net = MeasuredNet()
    spread = lambda shape: net.random.uniform(0.02, 0.06, shape).astype(np.float32)  # noqa: E731
    middle = 8 if weight == "u4" else 0
    if kind == "MatMul":
        x = net.start(4, 32, code=code)
        net.const("w", net.random.integers(-7, 8, (32, 16)) + middle, weight)
        w = net.dq("w", spread((32 // size, 16)), middle, weight, name="w_dq", axis=0, block_size=size)
        y = net.op("MatMul", x, w, name="op")
    elif kind == "Gemm":
        x = net.start(4, 32, code=code)
        net.const("w", net.random.integers(-7, 8, (16, 32)) + middle, weight)
        w = net.dq("w", spread((16, 32 // size)), middle, weight, name="w_dq", axis=1, block_size=size)
        more = [net.floats("b", 16)] if bias else []
        y = net.op("Gemm", x, w, *more, name="op", transB=1)
    else:
        x = net.start(1, 32, 6, 6, code=code)
        net.const("w", net.random.integers(-7, 8, (16, 32, kernel, kernel)) + middle, weight)
        shape = (16, 32 // size, kernel, kernel)
        w = net.dq("w", spread(shape), middle, weight, name="w_dq", axis=1, block_size=size)
        more = [net.floats("b", 16, spread=1.0)] if bias else []
        y = net.op("Conv", x, w, *more, name="op", pads=[kernel // 2] * 4)
    return net, net.on_grid(y, code)


def two_stages(kind="MatMul", largest=16, code="u8", bias=False):
    """LPBQ: int4 codes, their scales an integer per block times a float per output."""
    net = MeasuredNet()
    x = net.start(4, 32, code=code)
    factors = net.random.integers(1, largest + 1, (2, 16))
    factors[0, :] = largest
    outputs, inputs = (1, 0) if kind == "MatMul" else (0, 1)
    if kind == "Gemm":
        factors = factors.T.copy()
    net.const("f", factors, "u8")
    per_output = net.random.uniform(0.001, 0.003, 16).astype(np.float32)
    scales = net.dq("f", per_output, code="u8", name="f_dq", axis=outputs)
    shape = (32, 16) if kind == "MatMul" else (16, 32)
    net.const("w", net.random.integers(-7, 8, shape), "s4")
    zeros = net.const("w_zero", np.zeros(factors.shape), "s4")
    w = net.op("DequantizeLinear", "w", scales, zeros, name="w_dq", axis=inputs, block_size=16)
    if kind == "MatMul":
        return net, net.on_grid(net.op("MatMul", x, w, name="op"), code)
    more = [net.floats("b", 16, spread=1.0)] if bias else []
    return net, net.on_grid(net.op("Gemm", x, w, *more, name="op", transB=1), code)


def moved(kind, shift=0, factor=1.0, after=None, perm=(0, 1, 3, 2)):
    """Something that moves values onto another grid, and perhaps an operator that reads them."""
    net = MeasuredNet()
    x = net.on_grid(net.op("Relu", net.start(1, 8, 6, 6)))
    scale, zero = net.grids[x]
    numbers = {
        "Reshape": [1, 288],
        "Gather": [0, 2, 1],
        "Resize": [1, 8, 12, 12],
    }
    inputs = [net.const("numbers", np.array(numbers[kind]))] if kind in numbers else []
    inputs = ["", "", *inputs] if kind == "Resize" else inputs
    attributes = {
        "Transpose": {"perm": list(perm)},
        "MaxPool": {"kernel_shape": [2, 2], "strides": [2, 2]},
        "Gather": {"axis": 1},
        "DepthToSpace": {"blocksize": 2},
        "Resize": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    }
    y = net.op(kind, x, *inputs, name="op", **attributes.get(kind, {}))
    y = net.on_grid(y, grid=(np.float32(scale * factor), zero + shift))
    return net, net.on_grid(net.op(after, y)) if after else y


def resize(place="half_pixel", rounding="floor", size=(12, 12)):
    net = MeasuredNet()
    x = net.start(1, 4, 6, 6)
    sizes = net.const("sizes", np.array([1, 4, *size]))
    y = net.op(
        "Resize", x, "", "", sizes, name="op", mode="nearest",
        coordinate_transformation_mode=place, nearest_mode=rounding,
    )  # fmt: skip
    return net, net.on_grid(y, grid=net.grids[x])


def constant(quantized=True, kind="Add"):
    net = MeasuredNet()
    x = net.start(1, 8, 6, 6)
    c = (
        net.stored("c", 1, 8, 1, 1, code="u8", scale=0.02, zero=128)
        if quantized
        else net.floats("c", 1, 8, 1, 1)
    )
    return net, net.on_grid(net.op(kind, x, c, name="op"))


def clipped(low, high, kind="Relu"):
    """A convolution and a Relu without a quantizer between them, on a grid from low to high."""
    net, y = convolution(out="float")
    return net, net.on_grid(net.op(kind, y, name="act"), bounds=(low, high))


def followed(kind, between, **attributes):
    """A convolution and another activation function, with or without a quantizer between them."""
    net, y = convolution(out=None if between else "float")
    return net, net.on_grid(net.op(kind, y, name="act", **attributes))


def normalized(gamma="u8", beta="s32", code="u8"):
    net = MeasuredNet()
    x = net.start(4, 16, code=code)
    zero = {"u8": 128, "u16": 32768}.get(gamma, 0)
    g = (
        net.floats("g", 16, spread=0.5)
        if gamma == "float"
        else net.stored("g", 16, code=gamma, scale=0.01, zero=zero)
    )
    more = [net.bias("b", 16, x, g)] if beta == "s32" else []
    return net, net.on_grid(net.op("LayerNormalization", x, g, *more, name="op", axis=-1), code)


def two_types(out="u16", scale=None):
    net = MeasuredNet()
    x = net.start(1, 8, 6, 6)
    w = net.stored("w", 8, 8, 3, 3, scale=scale)
    return net, net.on_grid(net.op("Conv", x, w, name="op"), out)


def high_rank(*shape):
    net = MeasuredNet()
    return net, net.on_grid(net.op("Sigmoid", net.start(*shape), name="op"))


def biased_product(relu, bias, shape=(1, 4, 32), scale=None, out="u8"):
    """MatMul, a bias added without a quantizer between, perhaps a Relu."""
    net = MeasuredNet()
    x = net.start(*shape)
    w = net.stored("w", 32, 16, axis=1, scale=scale)
    b = {
        "float": lambda: net.floats("b", 16),
        "u8": lambda: net.stored("b", 16, code="u8", scale=0.02, zero=128),
    }
    more = net.bias("b", 16, x, w) if bias == "int32" else b[bias]()
    y = net.op("Add", net.op("MatMul", x, w, name="product"), more, name="op")
    y = net.op("Relu", y, name="act") if relu else y
    return net, y if out == "float" else net.on_grid(y)


def embedding(table="u8", scale=0.02):
    """Rows of a stored table, given on its own grid or another."""
    net = MeasuredNet()
    factor = net.stored("c", 1, code="u8", scale=0.01, zero=128)
    shift = net.on_grid(net.op("Mul", net.start(1, 8), factor))
    rows = net.stored("t", 10, 8, code=table, scale=scale, zero=128 if table == "u8" else 0)
    picked = net.op("Gather", rows, net.const("ids", np.array([[3, 1, 4]])), name="op", axis=0)
    picked = net.on_grid(picked, grid=(np.float32(0.02), 128))
    return net, net.on_grid(net.op("Add", picked, shift, name="sum"))
