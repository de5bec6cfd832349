"""Scales: their values, shapes, axes and blocks, as TensorRT's parser takes them."""

from collections.abc import Iterator

import numpy as np

from fxquant.lint.graph import Graph, dims, is_dequantize, rank, readers
from fxquant.lint.rule import Match, Rule, Severity
from fxquant.lint.tensorrt.scale_fixes import dead_channels, revive_dead_channels, write_axes

_SCALE_TYPES = ("FLOAT", "FLOAT16", "BFLOAT16")
_BLOCKED_TYPES = ("INT4", "FLOAT8E4M3FN", "FLOAT4E2M1")


def _bad_scales(graph: Graph) -> Iterator[Match]:
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        scale, value = graph.encoding(node).scale, node.inputs[1]
        if value is not None and value.dtype is not None and value.dtype.name not in _SCALE_TYPES:
            yield Match(node=node, tensor=value, message=f"the scale is {value.dtype.name}.")
        elif scale is None and is_dequantize(value.producer() if value is not None else None):
            message = "the scale is dequantized: TensorRT knows no second stage."
            yield Match(node=node, tensor=value, message=message)
        elif scale is None:
            yield Match(node=node, tensor=value, message="the scale is computed, not stored.")
        elif scale.size == 0:
            yield Match(node=node, tensor=value, message="the scale is empty.")
        else:
            numbers = scale.astype(np.float64)
            bad = ~np.isfinite(numbers) | (numbers <= 0)
            if bad.any():
                fixable = dead_channels(graph, node) is not None
                yield Match(
                    node=node,
                    tensor=value,
                    message=f"{int(bad.sum())} of {bad.size} scales are 0, negative or not finite.",
                    remedy="Channels of zeros: scale 1." if fixable else "Calibrate again.",
                    is_fixable=fixable,
                )


def _volumes(graph: Graph) -> Iterator[Match]:
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        encoding = graph.encoding(node)
        if encoding.scale is None or encoding.zero_point is None:
            continue
        if encoding.scale.size != encoding.zero_point.size:
            sizes = f"{encoding.scale.size} scales and {encoding.zero_point.size} zero points."
            yield Match(node=node, tensor=node.inputs[1], message=sizes)


def _shapes(graph: Graph) -> Iterator[Match]:
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        encoding, shape = graph.encoding(node), dims(node.inputs[0])
        scale = encoding.scale
        if scale is None or scale.size == 1 or shape is None:
            continue
        if scale.ndim == 1 and not encoding.block_size:
            axis = encoding.axis_in(len(shape))
            size = shape[axis] if axis is not None and axis < len(shape) else -1
            if size is not None and size != scale.size:
                message = f"{scale.size} scales, but axis {axis} of {list(shape)} has another size."
                yield Match(node=node, tensor=node.inputs[1], message=message)
        elif scale.ndim != len(shape):
            message = f"the scale has rank {scale.ndim}, its tensor {len(shape)}."
            yield Match(node=node, tensor=node.inputs[1], message=message)
        else:
            sizes = list(zip(shape, scale.shape, strict=True))
            blocked = [(size, count) for size, count in sizes if size is not None and size != count]
            if len(blocked) > 1 or any(size % max(count, 1) for size, count in blocked):
                message = (
                    f"scales {list(scale.shape)} do not cut {list(shape)} into equal blocks of one axis."
                )
                yield Match(node=node, tensor=node.inputs[1], message=message)


def _axes(graph: Graph) -> Iterator[Match]:
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        encoding = graph.encoding(node)
        if encoding.is_per_tensor or (encoding.axis is not None and encoding.axis >= 0):
            continue
        fixable = encoding.axis_in(rank(node.inputs[0])) is not None
        said = "no axis is written" if encoding.axis is None else f"axis {encoding.axis} counts from the back"
        message = f"{said}: versions of TensorRT take different defaults."
        yield Match(node=node, message=message, remedy="Write the axis.", is_fixable=fixable)


def _activations_per_channel(graph: Graph) -> Iterator[Match]:
    for node in graph.of("QuantizeLinear"):
        encoding = graph.encoding(node)
        if not encoding.is_per_tensor and not graph.is_constant(node.inputs[0]):
            kind = "block" if encoding.block_size else "channel"
            message = f"an activation has a scale per {kind}."
            yield Match(node=node, tensor=node.inputs[0], message=message, remedy="One scale per tensor.")


def _odd_elements(graph: Graph) -> Iterator[Match]:
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        shape = dims(node.inputs[0])
        if graph.encoding(node).bits != 4 or not shape or None in shape:
            continue
        if np.prod([size or 1 for size in shape]) % 2:
            message = f"{list(shape)} has an odd number of elements of 4 bits."
            yield Match(node=node, tensor=node.inputs[0], message=message)


def _blocks(graph: Graph) -> Iterator[Match]:
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        encoding, data_rank = graph.encoding(node), rank(node.inputs[0])
        if not encoding.block_size:
            continue
        if encoding.dtype is not None and encoding.dtype.name not in _BLOCKED_TYPES:
            yield Match(
                node=node, message=f"blocks of {encoding.dtype.name}: only INT4, FP8 and FP4 have them."
            )
        axis = encoding.axis_in(data_rank)
        if axis is not None and data_rank is not None and axis < data_rank - 2:
            message = f"axis {axis} of {data_rank} is cut into blocks: only the last two can be."
            yield Match(node=node, message=message)
    for node in graph.nodes:
        if node.op_type.startswith("TRT_FP4Dynamic") and node.attributes.get("block_size") is not None:
            size = node.attributes["block_size"].as_int()
            if size != 16:
                yield Match(node=node, message=f"float4 has blocks of 16, not {size}.")


def _int4(graph: Graph) -> Iterator[Match]:
    for node in graph.of("QuantizeLinear"):
        if graph.encoding(node).bits == 4 and not graph.is_constant(node.inputs[0]):
            encoding = graph.encoding(node)
            if encoding.dtype is not None and encoding.dtype.name in ("INT4", "UINT4"):
                message = "INT4 is for weights only."
                yield Match(node=node, tensor=node.inputs[0], message=message)
    for node in graph.of("DequantizeLinear"):
        if graph.encoding(node).bits != 4:
            continue
        for reader in readers(node.outputs[0]):
            if reader.op_type in ("Conv", "ConvTranspose"):
                message = "a convolution has INT8 or FP8 weights, never 4 bits."
                yield Match(node=reader, tensor=node.outputs[0], message=message)
    for node in graph.nodes:
        shape = rank(node.inputs[0]) if node.inputs else None
        if node.op_type.startswith("TRT_") and "Dynamic" in node.op_type and shape not in (None, 2, 3):
            yield Match(node=node, message=f"dynamic quantization takes rank 2 or 3, not {shape}.")


_ERROR = Severity.ERROR
SCALE_RULES = (
    Rule(
        id="A04",
        severity=_ERROR,
        statement="every scale is a stored, positive, finite float",
        why='"Scale coefficients must all be positive"; channels of zeros are the usual cause',
        check=_bad_scales,
        fix=revive_dead_channels,
        no_fix="an activation whose scale is 0 has no numbers to keep",
    ),
    Rule(
        id="A05",
        severity=_ERROR,
        statement="there are as many zero points as scales",
        why='"The scale and zero point must have the same volume"',
        check=_volumes,
    ),
    Rule(
        id="A06",
        severity=_ERROR,
        statement="scales: one, or one per index of the axis, or of the tensor's rank, one axis in blocks",
        why='"number of scales is not equal to the number of output channels", "Only a single blocking '
        'dimension is allowed"',
        check=_shapes,
    ),
    Rule(
        id="A07",
        severity=_ERROR,
        statement="the axis of a scale per channel is written and counts from the front",
        why="the parser of TensorRT 10.1 takes 0 where none is written, newer ones 1",
        check=_axes,
        fix=write_axes,
    ),
    Rule(
        id="A08",
        severity=_ERROR,
        statement="activations have one scale per tensor",
        why='"Activations cannot be quantized per-channel"',
        check=_activations_per_channel,
    ),
    Rule(
        id="A12",
        severity=_ERROR,
        statement="a 4-bit tensor has an even number of elements",
        why='"4-bit quantization requires an even number of elements"',
        check=_odd_elements,
    ),
    Rule(
        id="A13",
        severity=_ERROR,
        statement="blocks are for INT4, FP8 and FP4, along one of the last two axes",
        why="INT8 in blocks is not supported",
        check=_blocks,
    ),
    Rule(
        id="A14",
        severity=_ERROR,
        statement="INT4 is for weights of Gemm and MatMul; convolutions are INT8 or FP8",
        why="the build fails",
        check=_int4,
    ),
)
