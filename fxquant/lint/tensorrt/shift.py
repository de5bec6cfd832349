"""shift_to_int8: uint8 with zero point 128 becomes int8 with zero point 0, the same numbers."""

import numpy as np
import onnx_ir as ir

from fxquant.lint.edit import drop_unread, replace, store
from fxquant.lint.graph import Graph, is_dequantize, is_quantize, readers

_MIDDLE = 128


def is_shiftable(graph: Graph, node: ir.Node) -> bool:
    """Whether all codes of a quantizer are uint8 around 128, and read by DequantizeLinear only."""
    group = _group(node)
    if not all(_is_middle(graph, member) for member in group):
        return False
    codes = node.outputs[0] if is_quantize(node) else node.inputs[0]
    if codes is None or codes.is_graph_output() or not all(is_dequantize(r) for r in readers(codes)):
        return False
    return is_quantize(node) or (codes.const_value is not None and not codes.is_graph_input())


def shift_to_int8(graph: Graph) -> int:
    """Subtract 128 from codes and zero points where that is exact; return the number of quantizers."""
    fixed = 0
    for node in list(graph.of("QuantizeLinear", "DequantizeLinear")):
        codes = node.inputs[0]
        if not is_quantize(node) and codes is not None and is_quantize(codes.producer()):
            continue
        if not is_shiftable(graph, node):
            continue
        for member in _group(node):
            zero_point = graph.constant(member.inputs[2])
            assert zero_point is not None
            zeros = np.zeros(zero_point.shape, np.int8)
            member.replace_input_with(2, store(graph, zeros, f"{member.outputs[0].name}_zero_point"))
            if "output_dtype" in member.attributes and is_quantize(member):
                del member.attributes["output_dtype"]
        if is_quantize(node):
            node.outputs[0].dtype = ir.DataType.INT8
        elif codes is not None:
            _shift_stored(graph, codes)
        fixed += 1
    return fixed


def _shift_stored(graph: Graph, codes: ir.Value) -> None:
    stored = graph.constant(codes)
    assert stored is not None
    shifted = (stored.astype(np.int16) - _MIDDLE).astype(np.int8)
    replace(codes, store(graph, shifted, f"{codes.name}_int8"))
    drop_unread(graph, codes)


def _group(node: ir.Node) -> list[ir.Node]:
    """Return all nodes that change with one: a quantizer and its readers, or the readers of stored codes."""
    codes = node.outputs[0] if is_quantize(node) else node.inputs[0]
    found = [] if codes is None else [reader for reader in readers(codes) if is_dequantize(reader)]
    return [node, *found] if is_quantize(node) else found


def _is_middle(graph: Graph, node: ir.Node) -> bool:
    encoding = graph.encoding(node)
    if encoding.dtype is not ir.DataType.UINT8 or encoding.zero_point is None:
        return False
    return bool(np.all(encoding.zero_point == _MIDDLE))
