"""Layers too small, too narrow or of a kind that INT8 and FP8 kernels do not speed up."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from fxquant.lint.edit import store
from fxquant.lint.graph import Graph, dequantize_before, dims, int_attribute, is_dequantize
from fxquant.lint.rule import Match, Rule, Severity
from fxquant.lint.tensorrt.patterns import is_quantized, is_stored, runs_int8
from fxquant.lint.tensorrt.small_layers import (
    small_convolution,
    small_float8_convolution,
    small_product,
)


def _small_products(graph: Graph) -> Iterator[Match]:
    for node in graph.of("MatMul", "Gemm"):
        reason = small_product(node)
        if reason and runs_int8(graph, node):
            yield Match(node=node, message=f"{reason}: slower in INT8.", remedy="Leave it float.")


def _small_convolutions(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Conv"):
        reason = small_convolution(graph, node)
        if reason and runs_int8(graph, node):
            yield Match(node=node, message=f"{reason}: slower in INT8.", remedy="Leave it float.")


def _float8_convolutions(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Conv"):
        weight = dequantize_before(node.inputs[1])
        dtype = None if weight is None else graph.encoding(weight).dtype
        reason = small_float8_convolution(graph, node) if dtype is ir.DataType.FLOAT8E4M3FN else ""
        if reason:
            yield Match(node=node, message=f"{reason}.", remedy="Leave it float.")


def _memory_bound(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Conv"):
        shape = dims(node.inputs[1])
        is_depthwise = shape is not None and shape[1] == 1 and int_attribute(node, "group", 1) > 1
        if is_depthwise and runs_int8(graph, node):
            yield Match(node=node, message="a depthwise convolution moves more than it computes.")
    for node in graph.of("GlobalAveragePool"):
        if is_quantized(graph, node.inputs[0]):
            yield Match(node=node, message="a global pool moves more than it computes.")


def _transposed(graph: Graph) -> Iterator[Match]:
    for node in graph.of("ConvTranspose"):
        weight = dequantize_before(node.inputs[1])
        if weight is None or not is_stored(graph, node.inputs[1]):
            continue
        encoding = graph.encoding(weight)
        if encoding.is_per_channel:
            fixable = _is_uniform(graph, weight)
            message = "a scale per channel: versions of TensorRT disagree about its axis."
            remedy = "All scales are equal: write one." if fixable else "One scale per tensor."
            yield Match(node=node, tensor=node.inputs[1], message=message, remedy=remedy, is_fixable=fixable)
        if (groups := int_attribute(node, "group", 1)) > 1:
            message = f"a quantized transposed convolution has 1 group, not {groups}."
            yield Match(node=node, message=message, remedy="Leave it float.")


def _is_uniform(graph: Graph, node: ir.Node) -> bool:
    encoding = graph.encoding(node)
    scale = encoding.scale
    if scale is None or not is_dequantize(node) or not graph.is_constant(node.inputs[0]):
        return False
    return encoding.is_symmetric and bool(np.all(scale == scale.reshape(-1)[0]))


def _join_equal_scales(graph: Graph) -> int:
    """Write one scale for a transposed convolution whose channels all have the same; return how many."""
    fixed = 0
    for node in graph.of("ConvTranspose"):
        weight = dequantize_before(node.inputs[1])
        if weight is None or graph.encoding(weight).is_per_tensor or not _is_uniform(graph, weight):
            continue
        encoding = graph.encoding(weight)
        assert encoding.scale is not None
        for index, array in ((1, encoding.scale), (2, encoding.zero_point)):
            if array is None:
                continue
            one = np.array(array.reshape(-1)[0])
            weight.replace_input_with(index, store(graph, one, f"{weight.outputs[0].name}_one"))
        weight.attributes.pop("axis", None)
        fixed += 1
    return fixed


SIZE_RULES = (
    Rule(
        id="P12",
        severity=Severity.WARNING,
        statement="a product with a vector, or over or onto fewer than 16 numbers, stays float",
        why="Tensor Cores do not help there, and Q/DQ cost time",
        check=_small_products,
    ),
    Rule(
        id="P13",
        severity=Severity.WARNING,
        statement="a convolution of fewer than 16 channels stays float, unless they are a multiple of 8, the "
        "kernel is square and it is the first or has 16 on one side; in groups: unless outputs are a "
        "multiple "
        "of 8 and kernels 3 or more",
        why="no INT8 kernel is faster there",
        check=_small_convolutions,
    ),
    Rule(
        id="P14",
        severity=Severity.WARNING,
        statement="an FP8 convolution has over 16 channels on both sides and at most 32 taps",
        why='"Could not find any implementation"',
        check=_float8_convolutions,
    ),
    Rule(
        id="P15",
        severity=Severity.INFO,
        statement="depthwise convolutions and global pools may be faster in FP16",
        why="they are bound by memory; only a measurement on the device tells",
        check=_memory_bound,
    ),
    Rule(
        id="P20",
        severity=Severity.WARNING,
        statement="a quantized ConvTranspose has one group and one weight scale",
        why="versions read scales per channel along different axes: wrong results, or no implementation",
        check=_transposed,
        fix=_join_equal_scales,
        no_fix="one scale in place of different ones is another weight",
    ),
)
