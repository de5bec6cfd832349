"""QDQ models of quantized layers, one behind the other, and of sums."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.peers.htp.layers import Layer


class QdqModel:
    """A model under construction, whose activations are uint8.

    Args:
        inputs: Shapes of the inputs by name.
    """

    def __init__(self, inputs: dict[str, list[int]]) -> None:
        self._inputs = [
            helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name, shape in inputs.items()
        ]
        self._constants: list[onnx.TensorProto] = []
        self._nodes: list[onnx.NodeProto] = []

    def constant(self, name: str, value: object, dtype: str) -> str:
        """Add a constant; return its name."""
        self._constants.append(numpy_helper.from_array(np.asarray(value).astype(dtype), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, **attributes: object) -> str:
        """Add a node; return the name of its output."""
        self._nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def dequantized(self, name: str, scale: object, zero: object, dtype: str, axis: int = 0) -> str:
        """Add a DequantizeLinear behind a tensor; return the name of its output."""
        zero = np.zeros(np.shape(scale)) + np.asarray(zero)
        parts = [self.constant(f"{name}_s", scale, "float32"), self.constant(f"{name}_z", zero, dtype)]
        return self.node("DequantizeLinear", [name, *parts], f"{name}_f", axis=axis)

    def quantized(self, name: str, scale: object, zero: int, output: str) -> str:
        """Add a QuantizeLinear to uint8 behind a tensor; return the name of its output."""
        parts = [
            self.constant(f"{output}_qs", scale, "float32"),
            self.constant(f"{output}_qz", zero, "uint8"),
        ]
        return self.node("QuantizeLinear", [name, *parts], output)

    def built(self, output: str) -> onnx.ModelProto:
        """Return the model with one output."""
        value = helper.make_tensor_value_info(output, TensorProto.UINT8, None)
        graph = helper.make_graph(self._nodes, "htp", self._inputs, [value], self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def model_of(layers: list[Layer], shape: list[int]) -> onnx.ModelProto:
    """Return a chain of layers as a model with input `x` of a shape."""
    model, name = QdqModel({"x": shape}), "x"
    for index, layer in enumerate(layers):
        name = _add_layer(model, layer, name, index)
    return model.built(name)


def sum_model(op: str, shape: list[int], grids: list[tuple[float, int]]) -> onnx.ModelProto:
    """Return an Add or Sub of inputs `a` and `b`; grids are scale and zero point of a, b and the output."""
    model = QdqModel({"a": shape, "b": shape})
    inputs = [model.dequantized(name, *grid, "uint8") for name, grid in zip("ab", grids, strict=False)]
    return model.built(model.quantized(model.node(op, inputs, "sum"), *grids[2], "y"))


def input_model(shape: list[int], scale: float, zero: int) -> onnx.ModelProto:
    """Return a model that quantizes its float input `x`, and passes the codes on through a convolution."""
    model, channels = QdqModel({}), shape[1]
    codes = model.quantized("x", scale, zero, "q")
    weight = model.constant("w", np.eye(channels).reshape(channels, channels, 1, 1), "int8")
    inputs = [model.dequantized(codes, scale, zero, "uint8"), model.dequantized(weight, 1.0, 0, "int8")]
    built = model.built(model.quantized(model.node("Conv", inputs, "c"), scale, zero, "y"))
    built.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
    return built


def _add_layer(model: QdqModel, layer: Layer, name: str, index: int) -> str:
    weight, bias = f"w{index}", f"b{index}"
    scale = layer.weight_scale.numpy()
    axis = 1 if layer.op in ("MatMul", "ConvTranspose") else 0
    model.constant(weight, layer.weight.numpy(), "int8")
    inputs = [
        model.dequantized(name, layer.input_scale.numpy(), layer.input_zero, "uint8"),
        model.dequantized(weight, scale, 0, "int8", axis),
    ]
    if layer.bias is not None:
        model.constant(bias, layer.bias.numpy(), "int32")
        inputs.append(model.dequantized(bias, (layer.input_scale * layer.weight_scale).numpy(), 0, "int32"))
    attributes: dict[str, object] = dict(layer.attributes)
    if layer.op == "Gemm":
        attributes["transB"] = 1
    result = model.node(layer.op, inputs, f"c{index}", **attributes)
    if layer.highest is not None:
        bounds = [
            model.constant(f"{side}{index}", value, "float32")
            for side, value in (("low", 0.0), ("high", layer.highest))
        ]
        result = model.node("Clip", [result, *bounds], f"r{index}")
    return model.quantized(result, layer.output_scale.numpy(), layer.output_zero, f"y{index}")


def fed(codes: torch.Tensor) -> np.ndarray:
    """Return codes as a model takes them."""
    array: np.ndarray = codes.to(torch.uint8).numpy()
    return array
