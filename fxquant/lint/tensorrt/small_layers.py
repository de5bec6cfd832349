"""is_left_float: layers so small that TensorRT runs them faster in float (P12, P13)."""

import onnx_ir as ir

from fxquant.lint.graph import Graph, dims, int_attribute
from fxquant.lint.tensorrt.patterns import matrix_sizes

_SMALL = 16  # channels, or rows and columns of a Tensor Core's tile
_LINED_UP = 8


def is_left_float(graph: Graph, node: ir.Node) -> bool:
    """Whether a weighted op is better left float; False where its sizes are not known."""
    if node.op_type in ("MatMul", "Gemm"):
        return small_product(node) != ""
    return node.op_type == "Conv" and small_convolution(graph, node) != ""


def small_product(node: ir.Node) -> str:
    """Return why a matrix product is too small for an INT8 kernel; empty if it is not."""
    rows, depth, columns = matrix_sizes(node)
    if rows == 1 or columns == 1:
        return "it multiplies by a vector"
    if depth is not None and depth < _SMALL:
        return f"it sums over {depth} numbers only"
    if columns is not None and columns < _SMALL:
        return f"it has {columns} columns only"
    return ""


def small_convolution(graph: Graph, node: ir.Node) -> str:
    """Return why a convolution is too small for an INT8 kernel; empty if it is not."""
    weight = dims(node.inputs[1])
    if weight is None or len(weight) < 3 or None in weight:
        return ""
    sizes = [size for size in weight if size is not None]
    outputs, inputs, kernel = sizes[0], sizes[1], sizes[2:]  # inputs per group
    groups = int_attribute(node, "group", 1)
    if inputs >= _SMALL and outputs >= _SMALL:
        return ""
    if groups > 1:
        return (
            "" if outputs % _LINED_UP == 0 and min(kernel) >= 3 else f"{outputs} channels in {groups} groups"
        )
    is_lined_up = inputs % _LINED_UP == 0 or outputs % _LINED_UP == 0
    is_first = node.inputs[0] is not None and _is_first(graph, node)
    has_width = is_first or max(inputs, outputs) >= _SMALL
    if is_lined_up and has_width and len(set(kernel)) == 1:
        return ""
    return f"{inputs} channels in, {outputs} out"


def _is_first(graph: Graph, node: ir.Node) -> bool:
    """Whether a convolution reads an input of the model, through Q/DQ at most."""
    value = node.inputs[0]
    while value is not None and not value.is_graph_input():
        producer = value.producer()
        if producer is None or producer.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return False
        value = producer.inputs[0]
    return value is not None
