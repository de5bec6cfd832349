"""Quantizers around weighted ops: on every input, none before the end of the epilogue."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from fxquant.lint.edit import replace
from fxquant.lint.graph import (
    WEIGHTED,
    Graph,
    dequantize_before,
    dequantize_of,
    dims,
    int_attribute,
    is_dequantize,
    is_quantize,
    readers,
    source,
)
from fxquant.lint.rule import Match, Rule, Severity
from fxquant.lint.tensorrt.patterns import ACTIVATIONS, NORMALIZATION, is_quantized, is_stored, silu_input
from fxquant.lint.tensorrt.small_layers import is_left_float


def _float_inputs(graph: Graph) -> Iterator[Match]:
    if not any(True for _ in graph.of("QuantizeLinear")):
        return  # weights alone: what is quantized is a choice, and A14, A17 check it
    for node in graph.of(*WEIGHTED):
        missing = [value for value in node.inputs[:2] if not is_quantized(graph, value)]
        is_weight_only = len(missing) == 1 and not is_stored(graph, missing[0])
        if not missing or is_left_float(graph, node) or (is_weight_only and _is_narrow_weight(graph, node)):
            continue
        names = " and ".join(f"'{value.name}'" for value in missing if value is not None)
        yield Match(
            node=node,
            tensor=missing[0],
            message=f"{names} is not quantized: the layer runs in float." if len(missing) == 1
            else f"{names} are not quantized: the layer runs in float.",
            remedy="Quantize both operands, or neither on purpose.",
        )  # fmt: skip
    yield from _weights_per_tensor(graph)


def _is_narrow_weight(graph: Graph, node: ir.Node) -> bool:
    """Whether a weight has 4 bits or is float8, which TensorRT also takes with float activations."""
    weight = dequantize_before(node.inputs[1])
    dtype = None if weight is None else graph.encoding(weight).dtype
    return dtype is not None and dtype.name != "INT8"


def _weights_per_tensor(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Conv", "Gemm", "MatMul"):
        weight = dequantize_before(node.inputs[1])
        if weight is None or not is_stored(graph, node.inputs[1]):
            continue
        channels, encoding = _channels(node), graph.encoding(weight)
        if encoding.scale is not None and encoding.is_per_tensor and channels not in (None, 1):
            message = f"the weight has one scale for {channels} output channels."
            yield Match(node=node, tensor=node.inputs[1], message=message, remedy="One scale per channel.")


def _output_axis(node: ir.Node) -> int | None:
    """Return the axis of a weight that counts output channels; None where the rank is not known."""
    shape = dims(node.inputs[1])
    if node.op_type == "Conv" or (node.op_type == "Gemm" and int_attribute(node, "transB", 0)):
        return 0
    return None if shape is None else len(shape) - 1


def _channels(node: ir.Node) -> int | None:
    shape, axis = dims(node.inputs[1]), _output_axis(node)
    return None if not shape or axis is None else shape[axis]


def _pairs_inside(graph: Graph, followers: frozenset[str]) -> Iterator[tuple[ir.Node, ir.Node, ir.Node]]:
    """Yield (weighted op, DequantizeLinear, what follows) where a pair stands between both."""
    for node in graph.of(*WEIGHTED):
        for quantize in filter(is_quantize, readers(node.outputs[0])):
            for dequantize in filter(is_dequantize, readers(quantize.outputs[0])):
                for reader in readers(dequantize.outputs[0]):
                    if reader.op_type in followers or _is_silu(reader, followers):
                        yield node, dequantize, reader


def _is_silu(node: ir.Node, followers: frozenset[str]) -> bool:
    return "Relu" in followers and node.op_type == "Mul" and silu_input(node) is not None


def _pairs_before_activations(graph: Graph) -> Iterator[Match]:
    for node, dequantize, reader in _pairs_inside(graph, ACTIVATIONS):
        fixable = _is_repeated(graph, dequantize, reader)
        yield Match(
            node=node,
            message=f"is quantized before its {reader.op_type}, which then does not fuse.",
            remedy="The pair after it has the same grid: drop the first." if fixable
            else f"Quantize after the {reader.op_type}.",
            is_fixable=fixable,
        )  # fmt: skip
    for node in graph.of("MatMul"):
        for quantize in filter(is_quantize, readers(node.outputs[0])):
            for add in _bias_adds(graph, quantize):
                message = "is quantized before its bias is added."
                yield Match(node=node, message=message, remedy=f"Quantize after '{add.outputs[0].name}'.")


def _bias_adds(graph: Graph, quantize: ir.Node) -> Iterator[ir.Node]:
    for dequantize in filter(is_dequantize, readers(quantize.outputs[0])):
        for reader in readers(dequantize.outputs[0]):
            if reader.op_type == "Add" and any(is_stored(graph, value) for value in reader.inputs):
                yield reader


def _is_repeated(graph: Graph, dequantize: ir.Node, reader: ir.Node) -> bool:
    """Whether Relu follows a pair, alone, and precedes one of the same symmetric grid."""
    if reader.op_type != "Relu" or len(readers(dequantize.outputs[0])) > 1:
        return False
    codes = dequantize.inputs[0]
    quantize = codes.producer() if codes is not None else None
    after = readers(reader.outputs[0])
    if quantize is None or not after or not all(is_quantize(node) for node in after):
        return False
    if len(readers(quantize.outputs[0])) > 1 or reader.outputs[0].is_graph_output():
        return False
    grid = graph.encoding(quantize)
    return (
        grid.is_symmetric and grid.is_per_tensor and all(graph.encoding(n).has_grid_of(grid) for n in after)
    )


def _drop_repeated(graph: Graph) -> int:
    """Remove a pair before Relu where the pair after it has the same grid; return how many.

    On a grid with zero point 0, quantizing commutes with max(x, 0).
    """
    fixed = 0
    for _, dequantize, reader in list(_pairs_inside(graph, ACTIVATIONS)):
        value = source(dequantize)
        if value is None or not _is_repeated(graph, dequantize, reader):
            continue
        quantize = dequantize.inputs[0].producer()  # type: ignore[union-attr]  # it has a source
        assert quantize is not None and quantize.graph is not None and dequantize.graph is not None
        replace(dequantize.outputs[0], value)
        dequantize.graph.remove(dequantize, safe=True)
        quantize.graph.remove(quantize, safe=True)
        fixed += 1
    return fixed


def _pairs_before_norms(graph: Graph) -> Iterator[Match]:
    for node, _, reader in _pairs_inside(graph, frozenset({NORMALIZATION})):
        message = "is quantized before its BatchNormalization, which then does not fuse."
        yield Match(node=node, message=message, remedy=f"Quantize after '{reader.outputs[0].name}'.")


def _weight_axes(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Conv", "Gemm", "MatMul"):
        weight = dequantize_of(node.inputs[1])
        encoding = None if weight is None else graph.encoding(weight)
        shape, wanted = dims(node.inputs[1]), _output_axis(node)
        if encoding is None or not encoding.is_per_channel or shape is None or wanted is None:
            continue
        if not is_stored(graph, node.inputs[1]):
            continue
        axis = encoding.axis_in(len(shape))
        if axis != wanted:
            message = f"the weight's scales lie along axis {axis}, its output channels along {wanted}."
            yield Match(node=node, tensor=node.inputs[1], message=message)


def _wide_weights(graph: Graph) -> Iterator[Match]:
    for node in graph.of("DequantizeLinear"):
        codes = node.inputs[0]
        if graph.encoding(node).dtype is not ir.DataType.INT8 or graph.is_external(codes):
            continue
        stored = graph.constant(codes)
        if stored is not None and stored.size and int(np.min(stored)) == -128:
            message = "the weight uses the code -128."
            yield Match(node=node, tensor=codes, message=message, remedy="Quantize weights to [-127, 127].")


WEIGHTED_RULES = (
    Rule(
        id="P01",
        severity=Severity.WARNING,
        statement="all inputs of Conv, ConvTranspose, Gemm, MatMul are quantized, weights per output channel",
        why="the layer runs a float kernel; one scale for a whole weight costs accuracy",
        check=_float_inputs,
    ),
    Rule(
        id="P02",
        severity=Severity.WARNING,
        statement="no quantizer between a weighted op and the activation after it",
        why="Conv, BatchNormalization and activation no longer run as one kernel; one rounding more",
        check=_pairs_before_activations,
        fix=_drop_repeated,
        no_fix="dropping a quantizer changes numbers, unless Relu and the same grid follow",
    ),
    Rule(
        id="P03",
        severity=Severity.WARNING,
        statement="no quantizer between a weighted op and its BatchNormalization",
        why="the normalization is then a kernel of its own",
        check=_pairs_before_norms,
        no_fix="dropping a quantizer changes numbers",
    ),
    Rule(
        id="P21",
        severity=Severity.INFO,
        statement="a weight's scales lie along its outputs: axis 0 of Conv and of Gemm with transB, else "
        "last",
        why="another axis is another granularity, which kernels do not have",
        check=_weight_axes,
    ),
    Rule(
        id="P22",
        severity=Severity.INFO,
        statement="weights use [-127, 127]",
        why="the narrow range is what NVIDIA recommends; weights in files of their own are not read for this",
        check=_wide_weights,
    ),
)
