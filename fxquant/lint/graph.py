"""Graph: an ONNX model as rules ask about it: who reads a tensor, what is constant, how it is quantized."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from fxquant.lint.encoding import Encoding

DOMAINS = ("", "ai.onnx", "com.microsoft")
COPIES = frozenset(
    {
        "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Tile", "Slice", "Split",
        "Gather", "MaxPool", "GlobalMaxPool", "Identity", "Dropout", "DepthToSpace", "SpaceToDepth",
    }
)  # fmt: skip
"""Operators that move or pick values: what they give lies on the grid of what they read."""
WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_SAME_CONSTANT = ("Identity", "Cast")


class Graph:
    """A view of a model; subgraphs of If and Loop are part of it.

    Args:
        model: The model; shapes and types are used where they are known.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model

    @property
    def nodes(self) -> list[ir.Node]:
        """All nodes, those of subgraphs included, in order."""
        return list(self.model.graph.all_nodes())

    def of(self, *op_types: str) -> Iterator[ir.Node]:
        """Yield the nodes of some operators."""
        return (node for node in self.nodes if node.op_type in op_types and node.domain in DOMAINS)

    @property
    def computing(self) -> Iterator[ir.Node]:
        """Yield the nodes that neither quantize nor give a constant."""
        skipped = ("QuantizeLinear", "DequantizeLinear", "Constant")
        return (node for node in self.nodes if node.op_type not in skipped)

    @property
    def opset(self) -> int:
        """The version of the standard operators."""
        return self.model.opset_imports.get("", 1)

    def encoding(self, node: ir.Node) -> Encoding:
        """Return how a QuantizeLinear or DequantizeLinear quantizes."""
        inputs = [*node.inputs, None, None]
        return Encoding.of(node, self.constant(inputs[1]), self.constant(inputs[2]))

    def constant(self, value: ir.Value | None) -> np.ndarray | None:
        """Return the value of a constant, read only when asked for; None if it is none."""
        tensor = self._constant_tensor(value)
        return None if tensor is None else np.asarray(tensor.numpy())

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether a value is stored in the file, possibly behind a Cast or Identity."""
        return self._constant_tensor(value) is not None

    def is_external(self, value: ir.Value | None) -> bool:
        """Whether a constant lies in a file of its own."""
        return isinstance(self._constant_tensor(value), ir.ExternalTensor)

    def _constant_tensor(self, value: ir.Value | None) -> ir.TensorProtocol | None:
        while value is not None:
            if value.const_value is not None:
                return value.const_value
            node = value.producer()
            if node is None:
                return None
            if node.op_type == "Constant" and "value" in node.attributes:
                return node.attributes["value"].as_tensor()
            if node.op_type not in _SAME_CONSTANT:
                return None
            value = node.inputs[0]
        return None


def is_quantize(node: ir.Node | None) -> bool:
    """Whether a node is a QuantizeLinear."""
    return node is not None and node.op_type == "QuantizeLinear" and node.domain in DOMAINS


def is_dequantize(node: ir.Node | None) -> bool:
    """Whether a node is a DequantizeLinear."""
    return node is not None and node.op_type == "DequantizeLinear" and node.domain in DOMAINS


def readers(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that read a value, each once, in order."""
    return list(dict.fromkeys(node for node, _ in value.uses()))


def dequantize_of(value: ir.Value | None) -> ir.Node | None:
    """Return the DequantizeLinear that gives a value; None if none does."""
    node = value.producer() if value is not None else None
    return node if is_dequantize(node) else None


def dequantize_before(value: ir.Value | None) -> ir.Node | None:
    """Return the DequantizeLinear that a value comes from through copies at most."""
    return dequantize_of(behind(value, COPIES))


def behind(value: ir.Value | None, ops: frozenset[str]) -> ir.Value | None:
    """Follow the first inputs of some operators upwards, and return where that ends."""
    while value is not None:
        node = value.producer()
        if node is None or node.op_type not in ops:
            return value
        value = node.inputs[0]
    return None


def quantizes_after(value: ir.Value) -> list[ir.Node]:
    """Return the QuantizeLinear nodes that read a value, directly or through copies."""
    found = [node for node in readers(value) if is_quantize(node)]
    for node in readers(value):
        if node.op_type in COPIES and node.inputs[0] is value:
            found += [deeper for output in node.outputs for deeper in quantizes_after(output)]
    return found


def source(dequantize: ir.Node) -> ir.Value | None:
    """Return the float tensor whose codes a DequantizeLinear reads; None for stored codes."""
    quantize = dequantize.inputs[0].producer() if dequantize.inputs[0] is not None else None
    return quantize.inputs[0] if is_quantize(quantize) and quantize is not None else None


def dims(value: ir.Value | None) -> tuple[int | None, ...] | None:
    """Return a value's dimensions, None for one that varies; None if the rank is not known."""
    if value is None:
        return None
    shape = value.shape
    if shape is None and value.const_value is not None:
        shape = value.const_value.shape  # type: ignore[assignment]  # both are sequences of dimensions
    if shape is None:
        return None
    return tuple(dim if isinstance(dim, int) else None for dim in shape)


def rank(value: ir.Value | None) -> int | None:
    """Return a value's rank; None if it is not known."""
    shape = dims(value)
    return None if shape is None else len(shape)


def int_attribute(node: ir.Node, name: str, default: int) -> int:
    """Return an attribute that is an integer."""
    return node.attributes.get_int(name, default)


def ints_attribute(node: ir.Node, name: str) -> list[int] | None:
    """Return an attribute that is a list of integers; None if it is not there."""
    return list(node.attributes[name].as_ints()) if name in node.attributes else None


def text_attribute(node: ir.Node, name: str, default: str) -> str:
    """Return an attribute that is a text."""
    return node.attributes.get_string(name, default)


def stored_weight(graph: Graph, node: ir.Node | None) -> ir.Value | None:
    """Return the stored weight of a layer, which bears the layer's name; None for a node without one."""
    if node is None or node.op_type not in WEIGHTED or len(node.inputs) < 2:
        return None
    value = behind(node.inputs[1], COPIES | {"QuantizeLinear", "DequantizeLinear", "Cast"})
    return value if graph.is_constant(value) else None
