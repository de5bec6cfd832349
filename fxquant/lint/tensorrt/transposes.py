"""move_transposes: X -> Q -> DQ -> Transpose becomes X -> Transpose -> Q -> DQ, for one scale per tensor."""

import onnx_ir as ir

from fxquant.lint.edit import replace
from fxquant.lint.graph import Graph, dequantize_of, is_quantize, readers


def is_movable(graph: Graph, transpose: ir.Node) -> bool:
    """Whether a Transpose can trade places with the pair before it, which nothing else reads."""
    pair = dequantize_of(transpose.inputs[0])
    codes = pair.inputs[0] if pair is not None else None
    quantize = codes.producer() if codes is not None else None
    if pair is None or codes is None or quantize is None or not is_quantize(quantize):
        return False
    alone = len(readers(pair.outputs[0])) == 1 and len(readers(codes)) == 1
    outputs = (pair.outputs[0], codes, transpose.outputs[0])
    is_inner = not any(value.is_graph_output() for value in outputs)
    return (
        alone and is_inner and graph.encoding(pair).is_per_tensor and graph.encoding(quantize).is_per_tensor
    )


def move_transposes(graph: Graph) -> int:
    """Transpose before quantizing where a MatMul reads the result; return how many."""
    fixed = 0
    for transpose in list(graph.of("Transpose")):
        feeds_product = any(reader.op_type == "MatMul" for reader in readers(transpose.outputs[0]))
        if not feeds_product or not is_movable(graph, transpose):
            continue
        pair = dequantize_of(transpose.inputs[0])
        assert pair is not None and pair.inputs[0] is not None
        quantize = pair.inputs[0].producer()
        assert quantize is not None
        shape = transpose.outputs[0].shape
        replace(transpose.outputs[0], pair.outputs[0])
        transpose.replace_input_with(0, quantize.inputs[0])
        quantize.replace_input_with(0, transpose.outputs[0])
        for value in (transpose.outputs[0], quantize.outputs[0], pair.outputs[0]):
            value.shape = shape
        assert transpose.graph is not None
        owner = transpose.graph
        owner.remove(transpose)
        owner.insert_before(quantize, transpose)
        fixed += 1
    return fixed
