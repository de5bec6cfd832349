"""Unit: an operator with the quantizers around it, which HTP runs on integers only if they are all there."""

from dataclasses import dataclass

import onnx_ir as ir

from fxquant.lint.encoding import Encoding
from fxquant.lint.graph import Graph, behind, dequantize_of, is_quantize, readers, source

CODES = {"UINT8": "u8", "INT8": "s8", "UINT16": "u16", "INT16": "s16", "INT32": "s32"}
PASSING = frozenset({"Reshape", "Transpose", "MaxPool", "Slice", "Pad", "Unsqueeze", "Squeeze", "Identity"})
"""Operators that ONNX Runtime moves Q and DQ across, so that they happen to work without their own."""
CLIPPING = ("Relu", "Clip")
FUSES_CLIP = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul")
_NO_TENSORS = {
    "Clip": (1, 2),
    "Resize": (1, 2),
    "Pad": (2,),
    "Upsample": (1,),
}  # float inputs that are options
_NO_COMPUTING = ("Shape", "Size", "Constant", "ConstantOfShape", "Range", "EPContext")


@dataclass(frozen=True, kw_only=True, eq=False)
class Operand:
    """A float input of an operator.

    Attributes:
        value: The input.
        dequantize: The DequantizeLinear that gives it, perhaps through what passes; None for float.
        is_stored: Whether its numbers are in the file.
        encoding: How it is quantized; None for float.
    """

    value: ir.Value
    dequantize: ir.Node | None
    is_stored: bool
    encoding: Encoding | None

    @property
    def code(self) -> str:
        """Its type: "u8", "s8", "u16", "s16", "s32", the ONNX name of another, empty for float."""
        return "" if self.encoding is None else code_of(self.encoding)


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """An operator, its float inputs, and the quantizers that read its first output.

    Attributes:
        node: The operator.
        operands: Its float inputs.
        quantizes: QuantizeLinear nodes that read its output, perhaps behind a Relu or Clip that fuses.
        clip: That Relu or Clip; None without one.
        is_read_as_float: Whether something else reads the output, or it is an output of the model.
    """

    node: ir.Node
    operands: tuple[Operand, ...]
    quantizes: tuple[ir.Node, ...]
    clip: ir.Node | None
    is_read_as_float: bool

    @property
    def activations(self) -> tuple[Operand, ...]:
        """The operands that are computed."""
        return tuple(operand for operand in self.operands if not operand.is_stored)

    @property
    def has_fine_weights(self) -> bool:
        """Whether an operand has scales per channel or block, which cannot be dequantized on their own."""
        grids = [operand.encoding for operand in self.operands if operand.encoding is not None]
        return any(not grid.is_per_tensor for grid in grids if code_of(grid) != "s32")


def code_of(encoding: Encoding) -> str:
    """Return the short name of an encoding's type; the ONNX name of a type that activations cannot have."""
    return "" if encoding.dtype is None else CODES.get(encoding.dtype.name, encoding.dtype.name)


def units(graph: Graph) -> list[Unit]:
    """Return the unit of every operator that computes floats."""
    found = []
    for node in graph.computing:
        gives_float = bool(node.outputs) and node.outputs[0].dtype in (None, ir.DataType.FLOAT)
        if node.op_type not in _NO_COMPUTING and gives_float:
            found.append(unit_of(graph, node))
    return found


def unit_of(graph: Graph, node: ir.Node) -> Unit:
    """Return the unit of an operator."""
    skipped = _NO_TENSORS.get(node.op_type, ())
    operands = tuple(
        operand_of(graph, value)
        for index, value in enumerate(node.inputs)
        if value is not None and index not in skipped and _is_float(graph, value)
    )
    output = node.outputs[0]
    clip = _clip_after(output) if node.op_type in FUSES_CLIP else None
    last = output if clip is None else clip.outputs[0]
    after = readers(last)
    quantizes = tuple(reader for reader in after if is_quantize(reader))
    is_read = last.is_graph_output() or len(quantizes) < len(after)
    return Unit(node=node, operands=operands, quantizes=quantizes, clip=clip, is_read_as_float=is_read)


def operand_of(graph: Graph, value: ir.Value) -> Operand:
    """Return an input of an operator with how it is quantized."""
    pair = dequantize_of(value) or dequantize_of(behind(value, PASSING))
    if pair is None:
        is_stored = graph.is_constant(behind(value, PASSING))
        return Operand(value=value, dequantize=None, is_stored=is_stored, encoding=None)
    origin = source(pair)
    is_stored = graph.is_constant(pair.inputs[0] if origin is None else origin)
    return Operand(value=value, dequantize=pair, is_stored=is_stored, encoding=graph.encoding(pair))


def layer_input(unit: Unit) -> Operand | None:
    """Return the computed operand of a layer; None if there is none."""
    return next(iter(unit.activations), None)


def weight_of(unit: Unit) -> Operand | None:
    """Return the second operand of a layer if it is stored; None otherwise."""
    weight = unit.operands[1] if len(unit.operands) > 1 else None
    return weight if weight is not None and weight.is_stored else None


def _clip_after(value: ir.Value) -> ir.Node | None:
    after = readers(value)
    is_alone = len(after) == 1 and after[0].op_type in CLIPPING and not value.is_graph_output()
    if not is_alone or not any(is_quantize(reader) for reader in readers(after[0].outputs[0])):
        return None
    return after[0]


def _is_float(graph: Graph, value: ir.Value) -> bool:
    if value.dtype is not None:
        return value.dtype is ir.DataType.FLOAT
    return not graph.is_constant(value)
