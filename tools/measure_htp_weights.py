"""Measure which weights Qualcomm's HTP takes in which layers, into fxquant/targets/htp_weights.csv.

    python -m tools.measure_htp_weights

Needs onnxruntime-qnn, whose simulator runs each small model (four minutes in all). A layer is "refused", or
computes in "float" (fp16), or runs on integers and is "right" or "wrong": off by 8 steps of an 8-bit output,
by 100 of a 16-bit one, against exact arithmetic.
"""

from pathlib import Path

from tests.lint.htp import measure
from tests.lint.measured_net import MeasuredNet

TARGET = Path(__file__).parent.parent / "fxquant" / "targets" / "htp_weights.csv"
ACTIVATIONS = ("u8", "s8", "u16", "s16")
WRONG_FROM = {"u8": 8, "s8": 8, "u16": 100, "s16": 100}
LAYERS = {  # operator, shapes of input and weight, axis of the outputs, attributes
    "conv1d": ("Conv", (1, 8, 12), (8, 8, 3), 0, {}),
    "conv2d": ("Conv", (1, 8, 6, 6), (8, 8, 3, 3), 0, {}),
    "conv3d": ("Conv", (1, 8, 5, 5, 5), (8, 8, 3, 3, 3), 0, {}),
    "depthwise1d": ("Conv", (1, 8, 12), (8, 1, 3), 0, {"group": 8}),
    "depthwise2d": ("Conv", (1, 8, 6, 6), (8, 1, 3, 3), 0, {"group": 8}),
    "conv_transpose1d": ("ConvTranspose", (1, 8, 12), (8, 8, 2), 1, {}),
    "conv_transpose2d": ("ConvTranspose", (1, 8, 6, 6), (8, 8, 2, 2), 1, {}),
    "gemm": ("Gemm", (4, 32), (8, 32), 0, {"transB": 1}),
    "matmul": ("MatMul", (1, 4, 32), (32, 8), 1, {}),
}
WEIGHTS = (  # type, scales, zero point
    *(("s8", scales, zero) for scales in ("tensor", "channel") for zero in (0, 5)),
    *(("u8", scales, zero) for scales in ("tensor", "channel") for zero in (128, 100)),
    *(("s4", scales, 0) for scales in ("tensor", "channel")),
    *(("u4", scales, 8) for scales in ("tensor", "channel")),
    *(("s16", scales, 0) for scales in ("tensor", "channel")),
    ("float", "", 0),
)
SIZES = {"s4": 0.08, "u4": 0.08, "s8": 0.01, "u8": 0.01, "s16": 4e-5}  # of a scale, for weights of one size
MIDDLES = {"u8": 128, "u4": 8}


def main() -> None:
    """Write a row per layer and format of its weight."""
    lines = [f"layer,weight,scales,zero_point,bias,{','.join(ACTIVATIONS)}"]
    for layer in LAYERS:
        for weight, scales, zero in WEIGHTS:
            place = "middle" if zero == MIDDLES.get(weight, 0) else "other"
            for bias in (False, True)[: 1 if layer == "matmul" else 2]:
                found = [outcome(layer, (weight, scales, zero), bias, code) for code in ACTIVATIONS]
                lines.append(",".join((layer, weight, scales, place, "yes" if bias else "no", *found)))
    TARGET.write_text("\n".join(lines) + "\n", encoding="utf-8")


def outcome(layer: str, weight: tuple[str, str, int], bias: bool, activation: str) -> str:
    """Return what the simulator makes of a layer."""
    net, output = build(layer, weight, bias, activation)
    kind, steps = measure(net, net.build(output))
    if kind == "refused":
        return kind
    if steps >= WRONG_FROM[activation]:
        return "wrong"
    return "float" if kind == "float" else "right"


def build(layer: str, weight: tuple[str, str, int], bias: bool, activation: str) -> tuple[MeasuredNet, str]:
    """Return a layer between quantized tensors, and the name of its output."""
    op_type, given, shape, axis, attributes = LAYERS[layer]
    code, scales, zero = weight
    net = MeasuredNet()
    x = net.start(*given, code=activation)
    if code == "float":
        w = net.floats("w", *shape)
    else:
        channels = shape[axis] if shape[axis] > 1 else shape[0]
        size = SIZES[code]
        scale = net.random.uniform(0.5 * size, size, channels) if scales == "channel" else size
        w = net.stored("w", *shape, code=code, axis=axis, scale=scale, zero=zero)
    more = []
    if bias:
        more = [net.floats("b", 8)] if code == "float" else [net.bias("b", 8, x, w)]
    return net, net.on_grid(net.op(op_type, x, w, *more, name="op", **attributes), activation)


if __name__ == "__main__":
    main()
