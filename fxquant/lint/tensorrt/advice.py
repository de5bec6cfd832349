"""Advice that a file does not tell, or tells only about the model as a whole."""

from collections.abc import Iterator

import onnx_ir as ir

from fxquant.lint.graph import COPIES, Graph, dequantize_before
from fxquant.lint.rule import Match, Rule, Severity
from fxquant.lint.tensorrt.patterns import EPILOGUE, runs_int8

_ONE_SIDED = ("Relu", "Sigmoid", "Softmax", "HardSigmoid", "Softplus", "Abs")


def _float32_regions(graph: Graph) -> Iterator[Match]:
    fused = _fused(graph)
    computing = (node for node in graph.computing if node.op_type != "Cast")  # the border of a region
    nodes = [node for node in computing if node not in fused and _is_float32_op(graph, node)]
    quantizes = any(True for _ in graph.of("QuantizeLinear", "DequantizeLinear"))
    if nodes and quantizes:
        kinds = ", ".join(sorted({node.op_type for node in nodes})[:6])
        message = f"{len(nodes)} ops run in float32 ({kinds}); TensorRT 11 obeys the types in the file."
        yield Match(node=None, message=message, remedy="Write what is not quantized in FP16 or BF16.")


def _fused(graph: Graph) -> set[ir.Node]:
    """Return INT8 layers, and what follows one as its epilogue: part of one kernel."""
    fused: set[ir.Node] = set()
    for node in graph.computing:
        before = {value.producer() for value in node.inputs if value is not None}
        if runs_int8(graph, node) or (node.op_type in EPILOGUE and not fused.isdisjoint(before)):
            fused.add(node)
    return fused


def _is_float32_op(graph: Graph, node: ir.Node) -> bool:
    """Whether an op gives float32 and is no copy, nor joins or resizes INT8."""
    reads = [value for value in node.inputs if value is not None and not graph.is_constant(value)]
    is_joining = node.op_type in ("Concat", "Resize") and all(map(dequantize_before, reads))
    if not reads or node.op_type in COPIES or is_joining:
        return False
    return any(value.dtype is ir.DataType.FLOAT for value in node.outputs)


def _one_sided(graph: Graph) -> Iterator[Match]:
    halved = []
    for node in graph.of("QuantizeLinear"):
        producer = node.inputs[0].producer() if node.inputs[0] is not None else None
        encoding = graph.encoding(node)
        is_signed = encoding.dtype is ir.DataType.INT8 and encoding.is_symmetric
        if producer is not None and producer.op_type in _ONE_SIDED and is_signed:
            halved.append(node)
    if halved:
        message = f"{len(halved)} tensors without negative values use half of their grid."
        yield Match(node=None, message=message, remedy="If accuracy falls, train with quantizers.")


ADVICE = (
    Rule(
        id="A21",
        severity=Severity.WARNING,
        statement="no refit of scales that have to be equal",
        why="a refit exception, or lost rewrites; a file does not tell whether it is to be refit",
    ),
    Rule(
        id="P23",
        severity=Severity.WARNING,
        statement="what is not quantized is FP16 or BF16",
        why="from TensorRT 11 on the types in the file are obeyed: FP32 islands",
        check=_float32_regions,
        no_fix="FP16 has other roundings",
    ),
    Rule(
        id="P26",
        severity=Severity.INFO,
        statement="quantize where it fuses; read the engine's layers (ProfilingVerbosity DETAILED)",
        why="Q/DQ that does not fuse slows down; only the engine tells",
    ),
    Rule(
        id="P29",
        severity=Severity.INFO,
        statement="one-sided tensors lose a bit on a symmetric grid",
        why="ResNet18 on ImageNet: 68.62 asymmetric, 68.33 symmetric; TensorRT takes nothing else",
        check=_one_sided,
    ),
)
