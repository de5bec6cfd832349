"""write_zero_points: the zero point that ONNX means where none is written."""

import numpy as np
import onnx_ir as ir

from fxquant.lint.edit import store
from fxquant.lint.graph import Graph, dims, is_quantize

_WRITABLE = ("INT8", "FLOAT8E4M3FN", "INT4", "FLOAT4E2M1")


def implied_dtype(graph: Graph, node: ir.Node) -> ir.DataType | None:
    """Return the type of codes that ONNX means: uint8 for a QuantizeLinear, else that of the codes."""
    return ir.DataType.UINT8 if is_quantize(node) else graph.encoding(node).dtype


def has_zero_point(node: ir.Node) -> bool:
    """Whether a zero point is written."""
    return len(node.inputs) > 2 and node.inputs[2] is not None


def write_zero_points(graph: Graph) -> int:
    """Write 0 of the implied type, in the scale's shape, where TensorRT takes that type; return how many."""
    fixed = 0
    for node in list(graph.of("QuantizeLinear", "DequantizeLinear")):
        if has_zero_point(node) or "output_dtype" in node.attributes:
            continue
        dtype, shape = implied_dtype(graph, node), dims(node.inputs[1])
        if dtype is None or dtype.name not in _WRITABLE or shape is None or None in shape:
            continue
        zeros = np.zeros([size for size in shape if size is not None], dtype.numpy())
        node.resize_inputs(3)
        node.replace_input_with(2, store(graph, zeros, f"{node.outputs[0].name}_zero_point", dtype))
        fixed += 1
    return fixed
