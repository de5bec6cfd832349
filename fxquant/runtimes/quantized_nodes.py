"""quantized_nodes: which nodes of a file are quantized, whatever a runtime makes of them."""

import onnx

_Q, _DQ = "QuantizeLinear", "DequantizeLinear"
QUANTIZERS = frozenset({_Q, _DQ})
"""ONNX ops that change between integers and floating point and compute nothing."""

_FOLDED = frozenset({"Relu", "Clip"})  # between an op and its quantizer
_ONE_TENSOR = frozenset({"Clip", "Pad", "Resize"})  # what else they read are parameters
_FLOATS = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, onnx.TensorProto.DOUBLE}
)


def quantized_nodes(model: onnx.ModelProto) -> set[str]:
    """Return the names of the nodes that read dequantized tensors only and whose outputs are all quantized.

    A Relu or Clip between a node and a quantizer counts as part of either.

    Args:
        model: A model whose nodes have names.
    """
    graph = model.graph
    floats = _float_values(model)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    given = {value.name for value in graph.output}
    producers = {name: node for node in graph.node for name in node.output}

    def is_dequantized(name: str) -> bool:
        if name not in floats:
            return True
        node = producers.get(name)
        return node is not None and node.op_type == _DQ

    def is_quantized(name: str) -> bool:
        used = readers.get(name, [])
        return (
            name not in given
            and bool(used)
            and all(
                node.op_type == _Q or (node.op_type in _FOLDED and is_quantized(node.output[0]))
                for node in used
            )
        )

    def feeds(node: onnx.NodeProto) -> bool:
        tensors = node.input[:1] if node.op_type in _ONE_TENSOR else node.input
        if all(is_dequantized(name) for name in tensors if name):
            return True
        before = producers.get(node.input[0])
        return node.op_type in _FOLDED and before is not None and feeds(before)

    return {
        node.name
        for node in graph.node
        if node.op_type not in QUANTIZERS
        and any(name in floats for name in node.input)
        and any(name in floats for name in node.output)
        and feeds(node)
        and all(is_quantized(name) for name in node.output if name in floats)
    }


def _float_values(model: onnx.ModelProto) -> set[str]:
    """Return the names of the floating point tensors."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.value_info, *inferred.input, *inferred.output]
    return {value.name for value in values if value.type.tensor_type.elem_type in _FLOATS} | {
        tensor.name for tensor in inferred.initializer if tensor.data_type in _FLOATS
    }
