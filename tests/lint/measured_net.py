"""MeasuredNet: a Net whose activations are quantized on the range that they have on its inputs."""

import numpy as np
import onnx
import onnxruntime

from tests.lint.net import BITS, Net

SYMMETRIC = ("s8", "s16")


def encoding(low, high, code):
    """Scale and zero point of a range with 0 in it: symmetric for signed codes."""
    levels = 2 ** BITS[code] - 1
    if code in SYMMETRIC:
        return np.float32(max(-low, high, 1e-6) / (levels // 2)), 0
    scale = np.float32((max(high, 0) - min(low, 0)) / levels)
    return scale, int(np.clip(np.rint(-min(low, 0) / scale), 0, levels))


def feeds(inputs):
    """Seeded values on their grids for inputs: name, shape, scale.

    Between two codes HTP rounds some values otherwise than ONNX, which is not what is measured here.
    """
    random = np.random.default_rng(1)
    values = {name: random.standard_normal(shape).clip(-2.9, 2.9) for name, shape, _ in inputs}
    scales = {name: float(scale) for name, _, scale in inputs}
    return {name: (np.rint(x / scales[name]) * scales[name]).astype(np.float32) for name, x in values.items()}


def exactly(model, values):
    """What a model computes of some inputs as ONNX defines it: nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, values)


class MeasuredNet(Net):
    """Starts from inputs on a grid, ends with an output on one."""

    def __init__(self, opset=21):
        super().__init__(opset)
        self.given = []  # inputs: name, shape, scale
        self.grids = {}  # name of a dequantized tensor -> its scale and zero point

    def start(self, *shape, code="u8", name="x"):
        """An input, quantized over [-3, 3]."""
        self.given.append((name, shape, encoding(-3, 3, code)[0]))
        return self.on_grid(self.input(*shape, name=name), code, (-3, 3))

    def on_grid(self, y, code="u8", bounds=None, grid=None):
        """Quantize a tensor and dequantize it, over given bounds, on a given grid, or over what it spans."""
        if grid is None:
            low, high = self.span(y) if bounds is None else bounds
            grid = encoding(low, high, code)
        read = self.pair(y, *grid, code=code)
        self.grids[read] = grid
        return read

    def span(self, y):
        values = exactly(self.build(y), feeds(self.given))[0]
        return float(values.min()), float(values.max())

    def bias(self, name, count, x, weight, factor=1.0):
        """An int32 bias at the product of the scales of an input and a weight, or at another scale."""
        scale = (np.float32(self.grids[x][0]) * np.float32(self.stored_scale(weight))).astype(
            np.float32
        ) * factor
        largest = int(0.3 / np.max(scale))  # of the size of real biases
        values = self.random.integers(-largest, largest, count)
        self.const(name, values, "s32")
        options = {"axis": 0} if np.size(scale) > 1 else {}
        return self.dq(name, scale.astype(np.float32), zero=None, name=f"{name}_dq", **options)

    def stored_scale(self, weight):
        tensors = {tensor.name: tensor for tensor in self.constants}
        return onnx.numpy_helper.to_array(tensors[f"{weight}_scale"])
