"""Layers as TensorRT's builder takes them: biases, weights behind a DequantizeLinear, options it lacks."""

from collections.abc import Iterator

import onnx_ir as ir

from fxquant.lint.biases import inline, inlined, is_bias
from fxquant.lint.graph import (
    WEIGHTED,
    Graph,
    dequantize_before,
    rank,
    readers,
    source,
)
from fxquant.lint.rule import Match, Rule, Severity

_INTEGERS = ("INT8", "UINT8", "INT4", "UINT4", "INT16", "UINT16", "FLOAT8E4M3FN", "FLOAT4E2M1")
_POOLS = ("MaxPool", "AveragePool", "LpPool")


def _quantized_biases(graph: Graph) -> Iterator[Match]:
    for node in graph.of("DequantizeLinear"):
        is_int32 = _is_int32(graph, node)
        if not is_int32 and not is_bias(node.outputs[0]):
            continue
        fixable = inlined(graph, node) is not None
        what = "codes are INT32" if is_int32 else "it is a bias"
        yield Match(
            node=node,
            tensor=node.inputs[0],
            message=f"{what}: TensorRT dequantizes INT8, FP8 and 4 bits, and keeps biases in float.",
            remedy="Store the float bias: codes times scale." if fixable else "Export a float bias.",
            is_fixable=fixable,
        )


def _inline_biases(graph: Graph) -> int:
    """Store the float numbers that a bias's codes stand for; return how many."""
    found = [
        node for node in graph.of("DequantizeLinear") if _is_int32(graph, node) or is_bias(node.outputs[0])
    ]
    return sum(inline(graph, node) for node in found)


def _is_int32(graph: Graph, node: ir.Node) -> bool:
    return graph.encoding(node).dtype is ir.DataType.INT32


def _raw_weights(graph: Graph) -> Iterator[Match]:
    for node in graph.of(*WEIGHTED):
        for value in node.inputs[:2]:
            if value is not None and value.dtype is not None and value.dtype.name in _INTEGERS:
                message = f"reads {value.dtype.name} without a DequantizeLinear."
                yield Match(node=node, tensor=value, message=message, remedy="Put one in between.")


def _weight_only(graph: Graph) -> Iterator[Match]:
    for node in graph.of(*WEIGHTED):
        weight = dequantize_before(node.inputs[1])
        if weight is None or (source(weight) is not None and not graph.is_constant(source(weight))):
            continue
        dtype = graph.encoding(weight).dtype
        if dtype is ir.DataType.INT8 and dequantize_before(node.inputs[0]) is None:
            yield Match(
                node=node,
                tensor=node.inputs[0],
                message="the weight is INT8, its input is float: no such kernel.",
                remedy="Quantize the input too, or leave the layer float.",
            )


def _options(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Conv", "ConvTranspose"):
        weight = dequantize_before(node.inputs[1])
        stored = node.inputs[1] if weight is None else source(weight) or weight.inputs[0]
        if not graph.is_constant(stored):
            yield Match(node=node, tensor=node.inputs[1], message="the weight is computed, not stored.")
    for node in graph.of("MaxPool"):
        if len(node.outputs) > 1 and (readers(node.outputs[1]) or node.outputs[1].is_graph_output()):
            yield Match(node=node, tensor=node.outputs[1], message="MaxPool has no Indices here.")
    for node in graph.of(*_POOLS):
        if (found := rank(node.inputs[0])) not in (None, 4, 5):
            yield Match(node=node, message=f"pooling is 2-d or 3-d, the input has rank {found}.")
    for node in graph.of("LayerNormalization"):
        if any(readers(output) or output.is_graph_output() for output in node.outputs[1:]):
            yield Match(node=node, message="LayerNormalization gives its first output only.")
    for node in graph.of("Attention"):
        if any(rank(value) not in (None, 4) for value in node.inputs[:3]):
            yield Match(node=node, message="Attention takes 4-d queries, keys and values.")
        if len(node.inputs) > 4 and any(value is not None for value in node.inputs[4:6]):
            yield Match(node=node, message="Attention takes no past keys and values.")


LAYER_RULES = (
    Rule(
        id="A09",
        severity=Severity.ERROR,
        statement="biases are float",
        why='"A DequantizeLayer can only run in kINT8/kFP8/kFP4/kINT4"',
        check=_quantized_biases,
        fix=_inline_biases,
    ),
    Rule(
        id="A16",
        severity=Severity.ERROR,
        statement="stored codes reach a layer through a DequantizeLinear",
        why='"an IDequantizeLayer is required between the weights and the linear operator"',
        check=_raw_weights,
    ),
    Rule(
        id="A17",
        severity=Severity.ERROR,
        statement="a layer with an INT8 weight reads an INT8 activation",
        why='"Could not find any implementation": INT8 for weights alone is not a mode of TensorRT',
        check=_weight_only,
    ),
    Rule(
        id="A20",
        severity=Severity.WARNING,
        statement="stored convolution weights, no MaxPool indices, pools in 2-d or 3-d, plain "
        "LayerNormalization and Attention",
        why="not supported",
        check=_options,
    ),
)
