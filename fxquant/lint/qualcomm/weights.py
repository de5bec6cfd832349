"""Weights of layers: the axis of their scales, and formats that HTP does not take."""

from collections.abc import Iterator

import numpy as np

from fxquant.lint.encoding import Encoding
from fxquant.lint.graph import Graph, dims, int_attribute, rank
from fxquant.lint.qualcomm.units import Operand, Unit, layer_input, units, weight_of
from fxquant.lint.rule import Match, Rule, Severity
from fxquant.targets.htp_weights import Outcome, WeightFormat, htp_weight_outcome

_MIDDLES = {"u8": 128, "u16": 32768, "UINT4": 8}
_CODES = {"INT4": "s4", "UINT4": "u4"}
_BIAS = 2  # the input that is one
_SAID = {
    Outcome.REFUSED: "refused",
    Outcome.WRONG: "accepted, and off by over 100 steps",
    Outcome.FLOAT: "computes in fp16",
}


def _layers(graph: Graph) -> Iterator[tuple[Unit, Operand]]:
    """Yield each layer with a stored weight, and the weight."""
    for unit in units(graph):
        weight = weight_of(unit)
        if unit.node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and weight is not None:
            yield unit, weight


def _axes(graph: Graph) -> Iterator[Match]:
    for unit, weight in _layers(graph):
        grid = weight.encoding
        is_direct = weight.dequantize is not None and weight.dequantize.outputs[0] is weight.value
        if grid is None or not grid.is_per_channel or not is_direct:
            continue
        count, wanted = rank(weight.value), _output_axis(unit, weight)
        axis = grid.axis_in(count)
        if None not in (wanted, axis) and axis != wanted:
            outcome = "accepted, and wrong" if unit.node.op_type == "MatMul" else "refused"
            yield Match(
                node=unit.node,
                message=f"the weight's scales lie along axis {axis}, its outputs along {wanted}: {outcome}.",
                remedy="Quantize along the output channels.",
            )


def _output_axis(unit: Unit, weight: Operand) -> int | None:
    kind, count = unit.node.op_type, rank(weight.value)
    if kind == "ConvTranspose":
        return 1
    if kind == "Conv" or (kind == "Gemm" and int_attribute(unit.node, "transB", 0)):
        return 0
    return None if count is None else count - 1


def _formats(graph: Graph) -> Iterator[Match]:
    for unit, weight in _layers(graph):
        grid, given = weight.encoding, layer_input(unit)
        if grid is None or grid.block_size or given is None or given.encoding is None:
            continue
        if grid.bits == 2:
            message = "2-bit weights are accepted, and wrong."
            yield Match(node=unit.node, message=message, remedy="Use int4 or int8.")
            continue
        form = _format(unit, weight, grid)
        outcome = None if form is None else htp_weight_outcome(form, given.code)
        if form is not None and outcome not in (None, Outcome.RIGHT):
            yield Match(
                node=unit.node,
                message=f"{_described(form)} on {given.code} activations: {_SAID[outcome]}.",
                remedy="Use int8 weights per channel, symmetric, on uint8 or uint16 activations.",
                severity=Severity.WARNING if outcome is Outcome.FLOAT else None,
            )


def _float_weights(graph: Graph) -> Iterator[Match]:
    for unit, weight in _layers(graph):
        given = layer_input(unit)
        if weight.encoding is not None or given is None or given.encoding is None or not unit.quantizes:
            continue
        form = _format(unit, weight, None)
        outcome = None if form is None else htp_weight_outcome(form, given.code)
        if outcome is Outcome.FLOAT:
            message, severity = "its weight is float: it computes in fp16.", Severity.WARNING
        else:
            message = "its weight is float: ONNX Runtime quantizes it to int8 with one scale, silently."
            severity = Severity.INFO if outcome is Outcome.RIGHT else Severity.ERROR
        yield Match(
            node=unit.node,
            tensor=weight.value,
            message=message,
            remedy="Quantize the weight, or neither input nor output.",
            severity=severity,
        )


def _format(unit: Unit, weight: Operand, grid: Encoding | None) -> WeightFormat | None:
    """Return the format of a layer's weight as the measured table has it; None for what it has not."""
    layer = _layer(unit, weight)
    if layer is None:
        return None
    zero = 0 if grid is None else _MIDDLES.get(weight.code, 0)
    is_centered = grid is None or grid.zero_point is None or bool(np.all(grid.zero_point == zero))
    return WeightFormat(
        layer=layer,
        weight="float" if grid is None else _CODES.get(weight.code, weight.code),
        is_per_channel=grid is not None and grid.is_per_channel,
        is_centered=is_centered,
        has_bias=len(unit.node.inputs) > _BIAS and unit.node.inputs[_BIAS] is not None,
    )


def _layer(unit: Unit, weight: Operand) -> str | None:
    shape, kind = dims(weight.value), unit.node.op_type
    if kind in ("Gemm", "MatMul"):
        return kind.lower()
    if shape is None:
        return None
    is_depthwise = kind == "Conv" and shape[1] == 1 and int_attribute(unit.node, "group", 1) > 1
    name = "depthwise" if is_depthwise else "conv" if kind == "Conv" else "conv_transpose"
    return f"{name}{len(shape) - 2}d"


def _described(form: WeightFormat) -> str:
    scales = "per channel" if form.is_per_channel else "with one scale"
    zero = "" if form.is_centered else ", zero point off the middle,"
    return f"{form.weight} weights {scales}{zero}{' and a bias' if form.has_bias else ''} in {form.layer}"


WEIGHT_RULES = (
    Rule(
        id="QNN-13",
        severity=Severity.ERROR,
        statement="a weight's scales lie along its outputs: axis 0 of Conv and of Gemm with transB, 1 of "
        "ConvTranspose, else last",
        why="MatMul along its inputs is accepted and wrong, others are refused",
        check=_axes,
    ),
    Rule(
        id="QNN-15",
        severity=Severity.ERROR,
        statement="the weight has a format that the layer takes on these activations: int8 symmetric is "
        "always one, "
        "int4 mostly, int2 never",
        why="measured, format by format (fxquant/targets/htp_weights.csv): refused, wrong or fp16",
        check=_formats,
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
