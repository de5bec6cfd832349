"""Quantizers around every operator: without one of them HTP computes in fp16, or refuses the model."""

from collections.abc import Iterator
from dataclasses import replace

import onnx_ir as ir

from fxquant.lint.graph import Graph, dequantize_of, is_quantize, readers
from fxquant.lint.qualcomm.units import CLIPPING, FUSES_CLIP, PASSING, Unit, code_of, unit_of, units
from fxquant.lint.rule import Match, Rule, Severity
from fxquant.targets.htp_support import Kind, htp_support

_BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Max", "Min")
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# what the second operand of a product of activations may be beside the first one
_PRODUCTS = {("u8", "s8"), ("u16", "s8"), ("u16", "u8"), ("u16", "s16"), ("s16", "s8")}


def _unformed(graph: Graph) -> Iterator[tuple[Unit, str, str]]:
    """Yield each operator that is no unit on integers, why, and what would make it one."""
    if not any(True for _ in graph.of("QuantizeLinear", "DequantizeLinear")):
        return
    for unit in (_joined(graph, unit) for unit in units(graph)):
        if unit is None or _is_inside_another(graph, unit.node) or _has_only_float_kernel(unit):
            continue
        floats = [operand for operand in unit.activations if operand.encoding is None]
        if floats:
            names = ", ".join(f"'{operand.value.name}'" for operand in floats)
            yield unit, f"{names} is read as float", "Quantize it."
        elif not unit.quantizes and unit.activations:
            yield (
                unit,
                "its output is not quantized",
                "Add a QuantizeLinear, then DequantizeLinear for readers.",
            )
        elif unit.is_read_as_float:
            yield unit, "its output is also read as float", "Let that reader read the DequantizeLinear."
        else:
            yield from _mixed(graph, unit)


def _joined(graph: Graph, unit: Unit) -> Unit | None:
    """Return MatMul and the Add of its bias as one unit, in place of the Add; None in place of MatMul."""
    after = readers(unit.node.outputs[0])
    if unit.node.op_type == "MatMul" and any(bias_product(graph, node) is unit.node for node in after):
        return None
    product = bias_product(graph, unit.node)
    if product is None:
        return unit
    return replace(unit, node=product, operands=unit_of(graph, product).operands)


def _mixed(graph: Graph, unit: Unit) -> Iterator[tuple[Unit, str, str]]:
    given = [code_of(graph.encoding(node)) for node in unit.quantizes]
    read = [operand.code for operand in unit.activations]
    if unit.node.op_type == "MatMul" and len(read) == 2 and tuple(read) in _PRODUCTS:
        read = read[:1]
    if len({*given, *read}) > 1:
        said = f"it reads {' and '.join(read)} and gives {' and '.join(given)}"
        yield unit, said, "Change types in a pair of its own: Q, DQ, Q, DQ."


def _is_inside_another(graph: Graph, node: ir.Node) -> bool:
    """Whether an operator fuses with the one before it, or passes Q and DQ on."""
    value = node.inputs[0] if node.inputs else None
    before = value.producer() if value is not None else None
    if node.op_type in CLIPPING and before is not None and before.op_type in FUSES_CLIP:
        return unit_of(graph, before).clip is node
    if node.op_type in PASSING and value is not None:
        return not any(is_quantize(reader) for reader in readers(node.outputs[0]))
    return False


def bias_product(graph: Graph, add: ir.Node) -> ir.Node | None:
    """Return the MatMul that an Add gives its stored bias to without a quantizer between; None otherwise."""
    if add.op_type != "Add":
        return None
    operands = unit_of(graph, add).operands
    for own, other in ((0, 1), (1, 0)):
        node = operands[own].value.producer() if len(operands) == 2 else None
        is_alone = node is not None and len(readers(operands[own].value)) == 1
        if node is not None and node.op_type == "MatMul" and is_alone and operands[other].is_stored:
            return node
    return None


def _has_only_float_kernel(unit: Unit) -> bool:
    """Whether QNN-12 speaks of an operator already: HTP has no integer kernel for it."""
    support = [htp_support(unit.node.op_type, code) for code in ("u8", "u16")]
    return all(found is not None and found.kind is not Kind.INTEGER for found in support)


def _islands(graph: Graph) -> Iterator[Match]:
    for unit, reason, remedy in _unformed(graph):
        if not unit.has_fine_weights:
            yield Match(node=unit.node, message=f"{reason}: it runs in fp16.", remedy=remedy)


def _lone_weights(graph: Graph) -> Iterator[Match]:
    for unit, reason, remedy in _unformed(graph):
        if unit.has_fine_weights:
            message = f"{reason}, and its weight has a scale per channel or block: refused."
            yield Match(node=unit.node, message=message, remedy=remedy)
    for node in graph.of("DequantizeLinear"):
        encoding = graph.encoding(node)
        if encoding.is_per_tensor or code_of(encoding) == "s32":
            continue
        lone = [reader for reader in _users(node) if reader.op_type not in (*_LAYERS, "DequantizeLinear")]
        if lone or node.outputs[0].is_graph_output():
            message = "scales per channel or block, but no layer reads the result: refused."
            yield Match(node=node, tensor=node.inputs[0], message=message, remedy="One scale per tensor.")


def _users(node: ir.Node) -> list[ir.Node]:
    found = []
    for reader in readers(node.outputs[0]):
        found += _users(reader) if reader.op_type in PASSING else [reader]
    return found


def _two_quantizers(graph: Graph) -> Iterator[Match]:
    for unit in units(graph):
        grids = [graph.encoding(node) for node in unit.quantizes]
        if len(grids) > 1 and not all(grid.has_grid_of(grids[0]) for grid in grids[1:]):
            message = f"{len(grids)} quantizers of different grids read its output: refused."
            yield Match(node=unit.node, message=message, remedy="Quantize once, then DQ and Q for the other.")


def _no_lone_weights(graph: Graph) -> Iterator[Match]:
    yield from _lone_weights(graph)
    yield from _two_quantizers(graph)


def _float_constants(graph: Graph) -> Iterator[Match]:
    for unit in units(graph):
        if unit.node.op_type not in _BINARY or bias_product(graph, unit.node) is not None:
            continue
        floats = [operand for operand in unit.operands if operand.is_stored and operand.encoding is None]
        codes = [
            operand.code for operand in unit.operands if operand.is_stored and operand.encoding is not None
        ]
        read = [operand.code for operand in unit.activations if operand.encoding is not None]
        if floats and read:
            message = "its constant is float: it runs in fp16."
            yield Match(
                node=unit.node,
                tensor=floats[0].value,
                message=message,
                remedy=f"Store it as {read[0]} behind a DequantizeLinear.",
            )
        elif codes and read and codes[0] != read[0]:
            message = f"its constant is {codes[0]}, its input {read[0]}: it runs in fp16."
            yield Match(node=unit.node, message=message, remedy=f"Store it as {read[0]}.")


def _passed_on(graph: Graph) -> Iterator[Match]:
    for node in graph.of(*PASSING):
        is_after_pair = dequantize_of(node.inputs[0]) is not None
        if is_after_pair and graph.constant(node.inputs[0]) is None:
            pair = dequantize_of(node.inputs[0])
            stored = pair is not None and graph.is_constant(pair.inputs[0])
            if not stored and not any(is_quantize(reader) for reader in readers(node.outputs[0])):
                message = "has no quantizer of its own: it works as long as ONNX Runtime moves the next one."
                yield Match(
                    node=node, message=message, remedy="Quantize its output on the grid of its input."
                )


BOUNDARY_RULES = (
    Rule(
        id="QNN-1",
        severity=Severity.WARNING,
        statement="every float input and output of an operator is quantized, all with one type",
        why="HTP dequantizes, computes in fp16 and quantizes again",
        check=_islands,
    ),
    Rule(
        id="QNN-2",
        severity=Severity.ERROR,
        statement="weights with scales per channel or block belong to a layer whose input and output are "
        "quantized; "
        "one quantizer per output",
        why="refused: HTP does not dequantize them on their own",
        check=_no_lone_weights,
    ),
    Rule(
        id="QNN-3",
        severity=Severity.WARNING,
        statement="a constant of Add, Sub, Mul, Div, Pow, PRelu, Max, Min is quantized with the activation's "
        "type",
        why="the operator runs in fp16",
        check=_float_constants,
    ),
    Rule(
        id="QNN-8",
        severity=Severity.INFO,
        statement="Reshape, Transpose, MaxPool, Slice, Pad, Squeeze have their own quantizer",
        why="without one they depend on ONNX Runtime moving quantizers",
        check=_passed_on,
    ),
)
