"""Weights of layers: their axis, symmetry and width, and what becomes of float ones."""

from collections.abc import Iterator

import numpy as np

from fxquant.lint.graph import Graph, dims, int_attribute
from fxquant.lint.qualcomm.units import Operand, Unit, layer_input, units, weight_of
from fxquant.lint.rule import Match, Rule, Severity

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_MIDDLE = 128


def _layers(graph: Graph) -> Iterator[tuple[Unit, Operand]]:
    """Yield each layer with a stored weight, and the weight."""
    for unit in units(graph):
        weight = weight_of(unit)
        if unit.node.op_type in _LAYERS and weight is not None:
            yield unit, weight


def _axes(graph: Graph) -> Iterator[Match]:
    for unit, weight in _layers(graph):
        grid = weight.encoding
        if grid is None:
            continue
        rank, wanted = _rank_and_axis(unit, weight)
        is_direct = weight.dequantize is not None and weight.dequantize.outputs[0] is weight.value
        axis = grid.axis_in(rank)
        if grid.is_per_channel and is_direct and None not in (rank, wanted, axis) and axis != wanted:
            outcome = "accepted, and wrong" if unit.node.op_type == "MatMul" else "refused"
            yield Match(
                node=unit.node,
                message=f"the weight's scales lie along axis {axis}, its outputs along {wanted}: {outcome}.",
                remedy="Quantize along the output channels.",
            )
        if not grid.is_symmetric:
            yield from _asymmetric(unit, weight)


def _rank_and_axis(unit: Unit, weight: Operand) -> tuple[int | None, int | None]:
    shape = dims(weight.value)
    rank = None if shape is None else len(shape)
    kind = unit.node.op_type
    if kind == "ConvTranspose":
        return rank, 1
    if kind == "Conv" or (kind == "Gemm" and int_attribute(unit.node, "transB", 0)):
        return rank, 0
    return rank, None if rank is None else rank - 1


def _asymmetric(unit: Unit, weight: Operand) -> Iterator[Match]:
    grid = weight.encoding
    assert grid is not None and grid.zero_point is not None
    given = layer_input(unit)
    is_middle = weight.code == "u8" and bool(np.all(grid.zero_point == _MIDDLE))
    if weight.code == "s8" and grid.is_per_channel:
        message = "int8 weights per channel have zero points other than 0: refused."
        yield Match(node=unit.node, tensor=weight.value, message=message, remedy="Quantize symmetrically.")
    elif weight.code == "u8" and given is not None and given.code in ("s8", "s16"):
        message = f"uint8 weights on {given.code} activations: refused."
        yield Match(node=unit.node, tensor=weight.value, message=message, remedy="Use int8 weights.")
    elif weight.code == "u8" and not is_middle and grid.is_per_tensor and given and given.code == "u16":
        message = "uint8 weights around another number than 128: off by about 400 steps of 16 bits."
        yield Match(node=unit.node, tensor=weight.value, message=message, remedy="Use int8, symmetric.")


def _narrow(graph: Graph) -> Iterator[Match]:
    for unit, weight in _layers(graph):
        grid, given = weight.encoding, layer_input(unit)
        if grid is None or grid.block_size or grid.bits not in (2, 4):
            continue
        is_convolution = unit.node.op_type in ("Conv", "ConvTranspose")
        if grid.bits == 2:
            message, remedy = "2-bit weights are accepted, and wrong.", "Use int4 or int8."
        elif given is not None and given.code == "s8":
            message, remedy = "4-bit weights on int8 activations: refused.", "Use uint8 activations."
        elif is_convolution and grid.is_per_tensor and len(unit.node.inputs) > 2:
            message, remedy = "4-bit weights with one scale, and a bias: refused.", "One scale per channel."
        elif is_convolution and weight.code == "UINT4":
            message, remedy = "unsigned 4-bit weights: refused.", "Use int4, symmetric."
        else:
            continue
        yield Match(node=unit.node, tensor=weight.value, message=message, remedy=remedy)


def _wide(graph: Graph) -> Iterator[Match]:
    for unit, weight in _layers(graph):
        given = layer_input(unit)
        if weight.code in ("s16", "u16") and given is not None and given.encoding is not None:
            is_fine = weight.encoding is not None and not weight.encoding.is_per_tensor
            if given.code != "u16":
                message = f"16-bit weights on {given.code} activations: refused."
                yield Match(node=unit.node, tensor=weight.value, message=message, remedy="Use int8 weights.")
            elif is_fine:
                message = "16-bit weights per channel: off by about 24 steps."
                yield Match(node=unit.node, tensor=weight.value, message=message, severity=Severity.WARNING)


def _widths(graph: Graph) -> Iterator[Match]:
    yield from _narrow(graph)
    yield from _wide(graph)


def _float_weights(graph: Graph) -> Iterator[Match]:
    for unit, weight in _layers(graph):
        given = layer_input(unit)
        is_inside = given is not None and given.encoding is not None and bool(unit.quantizes)
        if weight.encoding is not None or given is None or not is_inside:
            continue
        if unit.node.op_type == "MatMul":
            message = "its weight is float: it runs in fp16."
        else:
            message = "its weight is float: ONNX Runtime quantizes it to int8 with one scale, silently."
        yield Match(
            node=unit.node,
            tensor=weight.value,
            message=message,
            remedy="Quantize the weight, or neither input nor output.",
            severity=None
            if given.code in ("u16", "s16") and unit.node.op_type != "MatMul"
            else Severity.WARNING,
        )


WEIGHT_RULES = (
    Rule(
        id="QNN-13",
        severity=Severity.ERROR,
        statement="weights are signed and symmetric, with scales along the outputs: axis 0 of Conv and of "
        "Gemm with "
        "transB, 1 of ConvTranspose, else last",
        why="MatMul along its inputs is accepted and wrong; the rest is refused, or wrong at 16 bits",
        check=_axes,
    ),
    Rule(
        id="QNN-15",
        severity=Severity.ERROR,
        statement="4-bit weights are int4 per channel on uint8 or 16-bit activations; 16-bit weights are per "
        "tensor on "
        "uint16; 2-bit ones are not used",
        why="2 bits are accepted and wrong, the rest is refused",
        check=_widths,
    ),
    Rule(
        id="QNN-16",
        severity=Severity.ERROR,
        statement="a layer whose weight is float has no quantized input and output",
        why="ONNX Runtime quantizes the weight per tensor, off by hundreds of 16-bit steps; MatMul runs in "
        "fp16",
        check=_float_weights,
    ),
)
