"""Zero points, integer types, operators and versions that TensorRT's parser takes."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from fxquant.lint.graph import DOMAINS, Graph, is_dequantize, is_quantize, rank, readers
from fxquant.lint.rule import Match, Rule, Severity
from fxquant.lint.tensorrt.shift import is_shiftable, shift_to_int8
from fxquant.lint.tensorrt.zero_points import has_zero_point, implied_dtype, write_zero_points

_TYPES = ("INT8", "FLOAT8E4M3FN", "INT4", "FLOAT4E2M1")
_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16")
_INTEGER_OPS = frozenset(
    {
        "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear", "QGemm",
        "QLinearAdd", "QLinearMul", "QLinearConcat", "QLinearAveragePool", "QLinearGlobalAveragePool",
        "QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", "QLinearReduceMean", "QLinearWhere",
        "QAttention", "QEmbedLayerNormalization", "DynamicQuantizeMatMul", "MatMulIntegerToFloat",
    }
)  # fmt: skip
_NEWEST_OPSET = 24  # TensorRT 10.15


def _quantizers(graph: Graph) -> Iterator[ir.Node]:
    """Yield each quantizer once: every QuantizeLinear, and every DequantizeLinear of something else."""
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        codes = node.inputs[0]
        if is_quantize(node) or codes is None or not is_quantize(codes.producer()):
            yield node


def _nonzero_zero_points(graph: Graph) -> Iterator[Match]:
    for node in _quantizers(graph):
        zero_point = node.inputs[2] if has_zero_point(node) else None
        if zero_point is None:
            continue
        values = graph.constant(zero_point)
        if values is None:
            yield Match(node=node, tensor=zero_point, message="the zero point is computed, not stored.")
        elif np.any(values.astype(np.float32)):
            fixable = is_shiftable(graph, node)
            yield Match(
                node=node,
                tensor=node.inputs[0],
                message=f"the zero point is {values.reshape(-1)[0]}, not 0.",
                remedy="Exact as int8 with zero point 0." if fixable else "Calibrate symmetrically, as int8.",
                is_fixable=fixable,
            )


def _foreign_types(graph: Graph) -> Iterator[Match]:
    for node in _quantizers(graph):
        dtype = graph.encoding(node).dtype
        if (
            dtype is None
            or dtype.name in (*_TYPES, "INT32")
            or (is_quantize(node) and not has_zero_point(node))
        ):
            continue  # A09 and A03 speak of those
        fixable = is_shiftable(graph, node)
        so = "and clips [0, 255] at 127 * scale without a word" if dtype.name == "UINT8" else "and refuses"
        yield Match(
            node=node,
            tensor=node.inputs[0],
            message=f"codes are {dtype.name}; TensorRT reads INT8 {so}.",
            remedy="Exact as int8 with zero point 0." if fixable else "Calibrate symmetrically, as int8.",
            is_fixable=fixable,
        )


def _missing_zero_points(graph: Graph) -> Iterator[Match]:
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        if has_zero_point(node) or "output_dtype" in node.attributes:
            continue
        dtype = implied_dtype(graph, node)
        if dtype is None or dtype is ir.DataType.INT32:
            continue
        fixable = dtype.name in _TYPES
        remedy = f"Write a zero point of {dtype.name}." if fixable else "Quantize as int8, zero point 0."
        message = f"no zero point: ONNX means {dtype.name}, TensorRT takes INT8."
        yield Match(node=node, message=message, remedy=remedy, is_fixable=fixable)


def _integer_operators(graph: Graph) -> Iterator[Match]:
    for node in graph.nodes:
        if node.op_type in _INTEGER_OPS and node.domain in DOMAINS:
            yield Match(node=node, message="TensorRT has no such operator.", remedy="Write it as Q/DQ.")


def _needed_opset(graph: Graph, node: ir.Node) -> tuple[int, str]:
    encoding = graph.encoding(node)
    needs = [(10, "QuantizeLinear")]
    if encoding.is_per_channel:
        needs.append((13, "a scale per channel"))
    if encoding.dtype is not None and encoding.dtype.name.startswith("FLOAT8"):
        needs.append((19, "float8"))
    scale = node.inputs[1].dtype if node.inputs[1] is not None else None
    if scale is not None and scale.name in ("FLOAT16", "BFLOAT16"):
        needs.append((19, "a 16-bit float scale"))
    if encoding.bits == 4 or encoding.block_size:
        needs.append((21, "4 bits or blocks"))
    if encoding.dtype is not None and encoding.dtype.name == "FLOAT4E2M1":
        needs.append((23, "float4"))
    return max(needs)


def _versions(graph: Graph) -> Iterator[Match]:
    if graph.opset > _NEWEST_OPSET:
        message = f"opset {graph.opset} is newer than {_NEWEST_OPSET}, the newest TensorRT 10.15 reads."
        yield Match(node=None, message=message)
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        needed, what = _needed_opset(graph, node)
        if graph.opset < needed and node.domain != "com.microsoft":
            message = f"{what} needs opset {needed}, the file has {graph.opset}."
            yield Match(node=node, message=message, remedy=f"Export with opset {needed}.")


def _mixed_types(graph: Graph) -> Iterator[Match]:
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        scale = node.inputs[1].dtype if node.inputs[1] is not None else None
        data = node.inputs[0].dtype if node.inputs[0] is not None else None
        written = node.attributes.get_int("output_dtype", 0)
        output = ir.DataType(written) if written else None
        if is_quantize(node) and scale is not None and data is not None and data != scale:
            yield Match(node=node, message=f"the scale is {scale.name}, its input {data.name}.")
        if is_dequantize(node) and output is not None and output.name not in _FLOATS:
            yield Match(node=node, message=f"output_dtype is {output.name}, no float type.")
        if is_quantize(node) and output is not None and output != graph.encoding(node).dtype:
            yield Match(node=node, message="output_dtype and the zero point's type differ.")
        if node.attributes.get_int("precision", 0):
            message = "TensorRT ignores the attribute precision."
            yield Match(node=node, message=message, severity=Severity.INFO)


def _loose_integers(graph: Graph) -> Iterator[Match]:
    for node in graph.of("QuantizeLinear"):
        codes = node.outputs[0]
        for reader in readers(codes):
            if not is_dequantize(reader):
                yield Match(node=reader, tensor=codes, message=f"reads integers of '{codes.name}'.")
        if codes.is_graph_output():
            yield Match(node=node, tensor=codes, message="the model's output is an integer tensor.")
    for node in graph.of("DequantizeLinear"):
        stored = node.inputs[0]
        producer = None if stored is None else stored.producer()
        if graph.is_constant(stored) or is_quantize(producer):
            continue
        if producer is None or producer.op_type not in _INTEGER_OPS:
            message = "reads codes that neither a QuantizeLinear nor the file gives."
            yield Match(node=node, tensor=stored, message=message)


def _scalars(graph: Graph) -> Iterator[Match]:
    for node in _quantizers(graph):
        if rank(node.inputs[0]) == 0:
            yield Match(node=node, tensor=node.inputs[0], message="quantizes a tensor of rank 0.")


_ERROR = Severity.ERROR
TYPE_RULES = (
    Rule(
        id="A01",
        severity=_ERROR,
        statement="every zero point is a stored 0",
        why="the parser refuses others; default settings of torch and ONNX Runtime write them",
        check=_nonzero_zero_points,
        fix=shift_to_int8,
        no_fix="only uint8 around 128 is int8 around 0",
    ),
    Rule(
        id="A02",
        severity=_ERROR,
        statement="codes are INT8, FLOAT8E4M3FN, INT4 or FLOAT4E2M1",
        why="stored UINT8 is refused; a UINT8 zero point only warns, and [0, 255] is clipped at 127 * scale",
        check=_foreign_types,
        fix=shift_to_int8,
        no_fix="only uint8 around 128 is int8 around 0",
    ),
    Rule(
        id="A03",
        severity=_ERROR,
        statement="the zero point is written",
        why="without one ONNX means uint8 and TensorRT int8: the file gives other numbers there",
        check=_missing_zero_points,
        fix=write_zero_points,
        no_fix="a quantizer that is uint8 by default has no equal in int8",
    ),
    Rule(
        id="A10",
        severity=_ERROR,
        statement="no QLinear, integer or dynamically quantizing operators",
        why="TensorRT's parser does not know them",
        check=_integer_operators,
    ),
    Rule(
        id="A11",
        severity=_ERROR,
        statement="opset 13 for a scale per channel, 19 for float8, 21 for 4 bits and blocks, 23 for float4, "
        "24 at most",
        why="the checker or the parser fails",
        check=_versions,
    ),
    Rule(
        id="A15",
        severity=_ERROR,
        statement="a scale has the type of the float tensor, output_dtype that of the zero point",
        why="networks are strongly typed: the build fails, or Casts are inserted",
        check=_mixed_types,
    ),
    Rule(
        id="A18",
        severity=_ERROR,
        statement="a QuantizeLinear feeds DequantizeLinear only, and the other way round",
        why="TensorRT has no general tensors of 8-bit integers",
        check=_loose_integers,
    ),
    Rule(
        id="A19",
        severity=Severity.WARNING,
        statement="no quantized tensor has rank 0",
        why="the parser inserts a reshape; the API refuses",
        check=_scalars,
    ),
)
