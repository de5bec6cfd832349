"""Quantizers in and around attention, normalization, gates and resizing."""

from collections.abc import Iterator

import onnx_ir as ir

from fxquant.lint.graph import (
    COPIES,
    Graph,
    behind,
    dequantize_before,
    dequantize_of,
    dims,
    is_quantize,
    readers,
    source,
)
from fxquant.lint.rule import Match, Rule, Severity
from fxquant.lint.tensorrt.patterns import (
    CONVOLUTIONS,
    NORMALIZATION,
    attentions,
    conv_behind,
    is_quantized,
    is_stored,
    runs_int8,
    silu_input,
)
from fxquant.lint.tensorrt.transposes import is_movable, move_transposes

_FLOAT_INSIDE = ("LayerNormalization", "RMSNormalization", "Softmax", "LogSoftmax", "Erf", "Gelu")
_SCALING = ("Mul", "Div", "Cast")
_LONGEST = 512  # tokens, of attention in INT8
_HEAD_SIZES = range(9, 257)  # of attention in FP8


def _inside_patterns(graph: Graph) -> Iterator[Match]:
    for node in graph.of(*_FLOAT_INSIDE):
        pair = dequantize_before(node.inputs[0])
        if pair is None:
            continue
        origin = behind(source(pair), COPIES)
        if node.op_type == "LayerNormalization" and conv_behind(origin, graph) is not None:
            continue  # a faster convolution
        message = f"{node.op_type} computes in float, and reads a quantized tensor."
        yield Match(node=node, tensor=node.inputs[0], message=message, remedy="Let it read the float tensor.")


def _attention(graph: Graph) -> Iterator[Match]:
    for first, way, softmax, second in attentions(graph):
        operands = ((first, 0), (first, 1), (second, 0), (second, 1))
        floats = [(node, index) for node, index in operands if not is_quantized(graph, node.inputs[index])]
        if floats and len(floats) < len(operands):
            names = ", ".join(f"'{node.inputs[index].name}'" for node, index in floats)  # type: ignore[union-attr]
            message = f"of its four operands {names} are float: attention is not fused in INT8."
            yield Match(node=first, message=message, remedy="Quantize q, k, v and the Softmax, or none.")
        for node in way:
            if is_quantize(node):
                message = f"a quantizer stands between the product and '{softmax.outputs[0].name}'."
                yield Match(node=node, message=message, remedy="Keep scale, mask and Softmax input float.")
        yield from _sizes(graph, first)
    for node in graph.of("MatMul"):
        for index, value in enumerate(node.inputs):
            yield from _between_pair_and_product(graph, node, index, value)


def _sizes(graph: Graph, first: ir.Node) -> Iterator[Match]:
    pair = dequantize_before(first.inputs[0])
    shape = dims(first.outputs[0]) or dims(first.inputs[0])
    if pair is None or shape is None:
        return
    dtype = graph.encoding(pair).dtype
    length, head = shape[-2] if len(shape) > 1 else None, (dims(first.inputs[0]) or (None,))[-1]
    if dtype is ir.DataType.INT8 and length is not None and length > _LONGEST:
        message = f"attention over {length} tokens is not fused in INT8, {_LONGEST} is the most."
        yield Match(node=first, message=message, remedy="Leave it float.")
    if dtype is ir.DataType.FLOAT8E4M3FN and head is not None and head not in _HEAD_SIZES:
        yield Match(node=first, message=f"a head of {head} numbers is not fused in FP8.")


def _between_pair_and_product(
    graph: Graph, node: ir.Node, index: int, value: ir.Value | None
) -> Iterator[Match]:
    producer = value.producer() if value is not None else None
    if producer is None or is_stored(graph, value):
        return
    if producer.op_type == "Transpose" and dequantize_of(producer.inputs[0]) is not None:
        yield Match(
            node=node,
            tensor=value,
            message=f"operand {index} is transposed after it is dequantized.",
            remedy="Transpose before the quantizer.",
            is_fixable=is_movable(graph, producer),
        )
    elif _scales_grid(graph, producer):
        message = f"a {producer.op_type} stands between the quantizer and operand {index}."
        yield Match(node=node, tensor=value, message=message, remedy="Put it before the quantizer.")


def _scales_grid(graph: Graph, node: ir.Node) -> bool:
    """Whether a node casts a dequantized tensor, or multiplies it by a constant."""
    if node.op_type not in _SCALING or all(dequantize_of(value) is None for value in node.inputs):
        return False
    return node.op_type == "Cast" or any(is_stored(graph, value) for value in node.inputs)


def _gates(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Mul"):
        silu = silu_input(node)
        gates = [item for item in node.inputs if _is_gate(item)]
        if silu is not None:
            pair = dequantize_of(silu)
            origin = None if pair is None else source(pair)
            if origin is not None and conv_behind(origin, graph) is not None:
                message = "SiLU reads its convolution's output through a quantizer: it does not fuse."
                yield Match(node=node, tensor=silu, message=message, remedy="Quantize after the SiLU.")
        elif gates and _is_squeeze_excite(graph, node):
            floats = [item for item in node.inputs if not is_quantized(graph, item)]
            if len(floats) == 1:
                message = "one input of a squeeze-and-excite product is float."
                yield Match(node=node, tensor=floats[0], message=message, remedy="Quantize both inputs.")


def _is_gate(value: ir.Value | None) -> bool:
    """Whether a value comes from Sigmoid or HardSigmoid, through Q/DQ."""
    while value is not None:
        node = value.producer()
        if node is None:
            return False
        if node.op_type in ("Sigmoid", "HardSigmoid"):
            return True
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return False
        value = node.inputs[0]
    return False


def _is_squeeze_excite(graph: Graph, mul: ir.Node) -> bool:
    """Whether one input is a gate that a pool of the other goes into, found within a few nodes."""
    waiting = [item for item in mul.inputs if _is_gate(item)]
    for _ in range(24):  # nodes of a gate: pool, two convolutions, activations and their Q/DQ
        if not waiting:
            return False
        value = waiting.pop(0)
        node = value.producer() if value is not None else None
        if node is None or graph.is_constant(value):
            continue
        if node.op_type in ("GlobalAveragePool", "ReduceMean"):
            return True
        waiting += [item for item in node.inputs[:1] if item is not None]
    return False


def _resizes(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Resize", "Upsample"):
        conv = None if node.outputs[0].is_graph_output() else conv_behind(node.inputs[0], graph)  # P11
        if conv is not None and runs_int8(graph, conv) and dequantize_before(node.inputs[0]) is None:
            message = "reads the float output of an INT8 convolution."
            yield Match(node=node, tensor=node.inputs[0], message=message, remedy="Quantize its input.")
    for node in graph.of(NORMALIZATION):
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        if before is None or before.op_type in (*CONVOLUTIONS, "Gemm", "MatMul", "DequantizeLinear"):
            continue
        if dequantize_before(node.inputs[0]) is None and _feeds_int8_convolution(graph, node):
            message = "a BatchNormalization without a layer before it reads float in a region of INT8."
            yield Match(node=node, tensor=node.inputs[0], message=message, remedy="Quantize its input.")


def _feeds_int8_convolution(graph: Graph, node: ir.Node) -> bool:
    """Whether what follows a normalization and an activation is quantized for a convolution."""
    passed = COPIES | {"Relu", "LeakyRelu", "Clip", "QuantizeLinear", "DequantizeLinear"}
    waiting = readers(node.outputs[0])
    while waiting:
        reader = waiting.pop()
        if reader.op_type in CONVOLUTIONS:
            return runs_int8(graph, reader)
        if reader.op_type in passed:
            waiting += readers(reader.outputs[0])
    return False


ATTENTION_RULES = (
    Rule(
        id="P16",
        severity=Severity.WARNING,
        statement="normalization, GELU and Softmax read float tensors; LayerNormalization after Conv need "
        "not",
        why="they have no INT8 kernel, and no longer fuse as patterns",
        check=_inside_patterns,
        no_fix="dropping a quantizer changes numbers",
    ),
    Rule(
        id="P17",
        severity=Severity.WARNING,
        statement="attention: q, k, v and Softmax output are quantized, scale and mask not; Transpose, "
        "factor "
        "and Cast stand before the quantizer; at most 512 tokens in INT8, heads of 9 to 256 in FP8",
        why="the pair does not fuse into the fused attention",
        check=_attention,
        fix=move_transposes,
        no_fix="only a Transpose commutes with a quantizer exactly",
    ),
    Rule(
        id="P18",
        severity=Severity.WARNING,
        statement="a squeeze-and-excite product has both inputs quantized; SiLU after Conv none inside",
        why="the product runs in float; SiLU no longer fuses",
        check=_gates,
        no_fix="adding or dropping a quantizer changes numbers",
    ),
    Rule(
        id="P19",
        severity=Severity.WARNING,
        statement="Resize after an INT8 convolution and BatchNormalization without a layer before it read "
        "INT8",
        why="the tensor between is written in float",
        check=_resizes,
        no_fix="a new quantizer needs calibration",
    ),
)
