"""inline: a bias as the float numbers that its codes stand for."""

import numpy as np
import onnx_ir as ir

from fxquant.lint.edit import drop_unread, replace, store
from fxquant.lint.graph import WEIGHTED, Graph

_BIAS = 2  # the input of Conv, ConvTranspose and Gemm that is one


def is_bias(value: ir.Value) -> bool:
    """Whether layers read a value, and only as their bias."""
    uses = list(value.uses())
    return bool(uses) and all(node.op_type in WEIGHTED and index == _BIAS for node, index in uses)


def inlined(graph: Graph, node: ir.Node) -> np.ndarray | None:
    """Return what a DequantizeLinear of stored codes gives, bit by bit as ONNX defines it, or None."""
    encoding, codes = graph.encoding(node), graph.constant(node.inputs[0])
    if codes is None or encoding.scale is None or encoding.block_size or not encoding.is_symmetric:
        return None
    if encoding.scale.dtype != np.float32:
        return None
    scale: np.ndarray = encoding.scale.reshape(-1)
    if scale.size > 1:
        axis = encoding.axis_in(codes.ndim)
        if axis is None or codes.ndim <= axis:
            return None
        scale = scale.reshape([-1 if index == axis else 1 for index in range(codes.ndim)])
    values: np.ndarray = codes.astype(np.float32) * scale
    return values.reshape(codes.shape)


def inline(graph: Graph, node: ir.Node) -> bool:
    """Store float32(codes) * scale in place of a DequantizeLinear; return whether that was possible."""
    values = inlined(graph, node)
    if values is None or node.graph is None:
        return False
    replace(node.outputs[0], store(graph, values, f"{node.outputs[0].name}_float"))
    inputs = list(node.inputs)
    node.graph.remove(node, safe=True)
    drop_unread(graph, *inputs)
    return True
