"""Exact repairs of scales: an axis that is only implied, channels of zeros with scale 0."""

import numpy as np
import onnx_ir as ir

from fxquant.lint.edit import drop_unread, store
from fxquant.lint.graph import Graph, is_dequantize, rank


def write_axes(graph: Graph) -> int:
    """Write the axis that ONNX means, counted from the front; return how many."""
    fixed = 0
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        encoding = graph.encoding(node)
        axis = encoding.axis_in(rank(node.inputs[0]))
        if encoding.is_per_tensor or axis is None or encoding.axis == axis:
            continue
        node.attributes["axis"] = ir.AttrInt64("axis", axis)
        fixed += 1
    return fixed


def dead_channels(graph: Graph, node: ir.Node) -> np.ndarray | None:
    """Return which scales of a stored tensor are 0; None where codes or scales cannot be rewritten."""
    encoding = graph.encoding(node)
    codes = node.inputs[0]
    if not is_dequantize(node) or encoding.scale is None or encoding.block_size or codes is None:
        return None
    if codes.const_value is None or len(codes.uses()) > 1:
        return None
    numbers = encoding.scale.astype(np.float64).reshape(-1)
    dead: np.ndarray = numbers == 0
    return dead if np.isfinite(numbers).all() and (numbers >= 0).all() and dead.any() else None


def revive_dead_channels(graph: Graph) -> int:
    """Give channels of scale 0 the scale 1 and codes that stay zeros; return how many tensors."""
    fixed = 0
    for node in list(graph.of("DequantizeLinear")):
        dead = dead_channels(graph, node)
        if dead is None:
            continue
        encoding, codes, scale = graph.encoding(node), node.inputs[0], node.inputs[1]
        assert codes is not None and codes.const_value is not None
        assert scale is not None and encoding.scale is not None
        axis = encoding.axis_in(rank(codes)) or 0
        revived = np.where(dead, 1, encoding.scale.reshape(-1)).astype(encoding.scale.dtype)
        revived = revived.reshape(encoding.scale.shape)
        array = np.array(codes.const_value.numpy())
        zero = np.zeros(1, array.dtype) if encoding.zero_point is None else encoding.zero_point
        along = (
            [-1 if index == axis else 1 for index in range(array.ndim)] if dead.size > 1 else [1] * array.ndim
        )
        cleared = np.where(
            dead.reshape(along), zero.reshape(along if zero.size > 1 else [1] * array.ndim), array
        )
        cleared = cleared.astype(array.dtype)
        node.replace_input_with(0, store(graph, cleared, f"{codes.name}_revived", codes.const_value.dtype))
        node.replace_input_with(1, store(graph, revived, f"{scale.name}_revived", scale.dtype))
        drop_unread(graph, codes, scale)
        fixed += 1
    return fixed
