"""Weights in blocks: one stage with float scales (BQ), or two with integer scales (LPBQ)."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from fxquant.lint.encoding import Encoding
from fxquant.lint.graph import Graph, dequantize_of, dims
from fxquant.lint.qualcomm.units import Operand, Unit, layer_input, units, weight_of
from fxquant.lint.rule import Match, Rule, Severity

_LARGEST = 16  # integer scale, with 4 bits for it
_LINED_UP = 8
_PER_CHANNEL = "Use int4 or int8 per channel."


def _blocked(graph: Graph, *, two_stages: bool) -> Iterator[tuple[Unit, Operand, Encoding]]:
    """Yield each layer whose weight has a scale per block, stored or itself dequantized."""
    for unit in units(graph):
        weight = weight_of(unit)
        grid = None if weight is None else weight.encoding
        if weight is None or grid is None or not grid.block_size or weight.dequantize is None:
            continue
        if (dequantize_of(weight.dequantize.inputs[1]) is not None) is two_stages:
            yield unit, weight, grid


def _two_stages(graph: Graph) -> Iterator[Match]:
    for unit, weight, grid in _blocked(graph, two_stages=True):
        pair = weight.dequantize
        inner = None if pair is None else dequantize_of(pair.inputs[1])
        assert pair is not None and inner is not None
        for message, remedy in _faults_of_two_stages(unit, grid, (pair, inner)):
            yield Match(node=unit.node, tensor=weight.value, message=message, remedy=remedy)
        factors = graph.constant(inner.inputs[0])
        if factors is None or not factors.size:
            continue
        if np.min(factors) < 1 or np.max(factors) > _LARGEST:
            message = f"integer scales up to {int(np.max(factors))}: above {_LARGEST} they wrap, silently."
            yield Match(node=inner, tensor=inner.inputs[0], message=message, remedy="Keep them in 1 to 16.")


def _faults_of_two_stages(
    unit: Unit, grid: Encoding, stages: tuple[ir.Node, ir.Node]
) -> Iterator[tuple[str, str]]:
    kind = unit.node.op_type
    if kind == "Gemm":
        said = "its bias is dropped, silently." if len(unit.node.inputs) > 2 else "refused."
        yield f"LPBQ in Gemm: {said}", "Use MatMul, and Add for the bias."
    elif kind != "MatMul":
        yield f"LPBQ in {kind}: refused.", _PER_CHANNEL
    if grid.bits != 4:
        yield "LPBQ has 4-bit codes: refused.", _PER_CHANNEL
    if any(len(node.inputs) < 3 or node.inputs[2] is None for node in stages):
        yield "LPBQ without zero points: refused.", "Write them."


def _one_stage(graph: Graph) -> Iterator[Match]:
    for unit, weight, grid in _blocked(graph, two_stages=False):
        for message, remedy in _faults_of_one_stage(unit, weight, grid):
            yield Match(node=unit.node, tensor=weight.value, message=message, remedy=remedy)
        message = "blocks with float scales compute in fp16."
        yield Match(node=unit.node, tensor=weight.value, message=message, severity=Severity.WARNING)


def _faults_of_one_stage(unit: Unit, weight: Operand, grid: Encoding) -> Iterator[tuple[str, str]]:
    given, kind = layer_input(unit), unit.node.op_type
    if weight.code.startswith("U"):
        yield "unsigned codes in blocks: accepted, and wrong.", "Use int4."
    if kind == "ConvTranspose" or (kind == "Gemm" and len(unit.node.inputs) > 2):
        yield (
            f"blocks in {kind}{' with a bias' if kind == 'Gemm' else ''}: refused.",
            "Use MatMul, or scales per channel.",
        )
    elif kind == "Conv" and _kernel(weight) not in (None, 1):
        yield "blocks in a convolution other than 1 x 1: refused.", _PER_CHANNEL
    if given is not None and given.code in ("u8", "s8"):
        yield "blocks with float scales on 8-bit activations: refused.", "Use 16 bits, or LPBQ in MatMul."
    if grid.block_size % _LINED_UP:
        yield f"blocks of {grid.block_size}, no multiple of 8: refused, or wrong.", "Use 8, 16, 32 or 64."
    if kind == "Conv" and _has_float_bias(unit):
        said = "blocks and a float bias: garbage, unless the session turns blocks into LPBQ."
        yield said, "Store an int32 bias at scale_input * scale."


def _kernel(weight: Operand) -> int | None:
    shape = dims(weight.value)
    if shape is None or None in shape:
        return None
    return int(np.prod([size for size in shape[2:] if size is not None]))


def _has_float_bias(unit: Unit) -> bool:
    bias: ir.Value | None = unit.node.inputs[2] if len(unit.node.inputs) > 2 else None
    return bias is not None and dequantize_of(bias) is None


BLOCK_RULES = (
    Rule(
        id="QNN-17",
        severity=Severity.ERROR,
        statement="LPBQ: MatMul with int4 codes, zero points written, integer scales from 1 to 16",
        why="Gemm loses its bias and larger scales wrap, silently; the rest is refused",
        check=_two_stages,
    ),
    Rule(
        id="QNN-18",
        severity=Severity.ERROR,
        statement="blocks with float scales: signed codes in MatMul, Gemm without bias or a 1 x 1 Conv "
        "without float bias, on "
        "16-bit "
        "activations, blocks a multiple of 8",
        why="a float bias or unsigned codes give garbage, the rest is refused; what runs computes in fp16",
        check=_one_stage,
    ),
)
