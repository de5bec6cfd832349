"""Encodings that two tensors have to share, types that a product takes, and pixels that Resize picks."""

from collections.abc import Iterator

import onnx_ir as ir

from fxquant.lint.graph import Graph, dims, is_quantize, readers, text_attribute
from fxquant.lint.qualcomm.units import unit_of, units
from fxquant.lint.rule import Match, Rule, Severity

_SAME = frozenset(
    {
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Expand",
        "Tile",
        "Gather",
        "MaxPool",
        "Resize",
        "Identity",
    }
)
_REQUANTIZING = frozenset(
    {"Transpose"}
)  # may change the scale, but then loses a change of the zero point alone
_NEAREST = {
    "half_pixel": ("round_prefer_floor", "round_prefer_ceil"),
    "align_corners": ("round_prefer_floor", "round_prefer_ceil"),
    "pytorch_half_pixel": ("round_prefer_floor", "round_prefer_ceil"),
    "asymmetric": ("floor",),
}
_ANY_RATIO = {("half_pixel", "round_prefer_ceil"), ("asymmetric", "floor")}


def _moved(graph: Graph) -> Iterator[Match]:
    for unit in units(graph):
        node = unit.node
        if node.op_type not in _SAME | _REQUANTIZING or not unit.operands or not unit.quantizes:
            continue
        read, given = unit.operands[0].encoding, graph.encoding(unit.quantizes[0])
        if read is None or read.dtype != given.dtype:
            continue
        if read.has_scale_of(given) and not read.has_zero_point_of(given):
            message = f"{node.op_type} keeps the scale and changes the zero point: off by that difference."
            yield Match(node=node, message=message, remedy="Use the encoding of its input.")
        elif node.op_type in _SAME and not read.has_scale_of(given):
            message = f"{node.op_type} changes the scale: it runs in fp16."
            yield Match(
                node=node,
                message=message,
                remedy="Use the encoding of its input.",
                severity=Severity.WARNING,
            )
    for node in graph.of("Split"):
        for output in node.outputs:
            if unit_of(graph, node).quantizes and not any(map(is_quantize, readers(output))):
                message = f"'{output.name}' has no quantizer: all of the Split runs in fp16."
                yield Match(node=node, tensor=output, message=message, severity=Severity.WARNING)


def _products(graph: Graph) -> Iterator[Match]:
    for unit in units(graph):
        if unit.node.op_type != "MatMul" or len(unit.activations) != 2:
            continue
        first, second = (operand.code for operand in unit.activations)
        if first == "u16" and second in ("u16", "u8"):
            said = "is narrowed to 8 bits" if second == "u16" else "has 8 bits"
            message = f"a product of u16 and {second}: the second {said}, results are off by about 250 steps."
            yield Match(
                node=unit.node,
                tensor=unit.activations[1].value,
                message=message,
                remedy="Quantize the second operand as int16 or int8, symmetric.",
            )


def _nearest(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Resize"):
        if text_attribute(node, "mode", "nearest") != "nearest" or not unit_of(graph, node).quantizes:
            continue
        place = text_attribute(node, "coordinate_transformation_mode", "half_pixel")
        rounding = text_attribute(node, "nearest_mode", "round_prefer_floor")
        is_whole = _has_whole_ratios(node)
        fits = rounding in _NEAREST.get(place, ())
        if place == "pytorch_half_pixel":
            fits = fits and is_whole is not False
        elif is_whole is False and not _is_exact(node):
            fits = fits and (place, rounding) in _ANY_RATIO
        if not fits:
            message = f"nearest with {place} and {rounding} at these sizes picks other pixels, or is refused."
            remedy = "Use asymmetric with floor, or half_pixel with round_prefer_ceil."
            yield Match(node=node, message=message, remedy=remedy)


def _has_whole_ratios(node: ir.Node) -> bool | None:
    """Whether every size grows by a whole factor; None where sizes are not known."""
    before, after = dims(node.inputs[0]), dims(node.outputs[0])
    if before is None or after is None or None in before or None in after:
        return None
    sizes = zip(before, after, strict=True)
    return all(new is not None and old is not None and new % old == 0 for old, new in sizes)


def _is_exact(node: ir.Node) -> bool:
    """Whether a ratio is a multiple of a half, or a whole one of shrinking: no rounding is in doubt there."""
    before, after = dims(node.inputs[0]), dims(node.outputs[0])
    if before is None or after is None:
        return True
    sizes = [
        (old, new) for old, new in zip(before, after, strict=True) if old is not None and new is not None
    ]
    return all((2 * new) % old == 0 or (new < old and old * 3 == new * 5) for old, new in sizes)


ENCODING_RULES = (
    Rule(
        id="QNN-9",
        severity=Severity.ERROR,
        statement="Reshape, Flatten, Squeeze, Expand, Tile, Gather, MaxPool and Resize have one encoding "
        "before and "
        "after, Transpose no other zero point at the same scale; every output of Split is quantized",
        why="another scale: fp16; another zero point alone: the numbers are off by the difference",
        check=_moved,
    ),
    Rule(
        id="QNN-19",
        severity=Severity.ERROR,
        statement="of a product of two 16-bit activations the second is int16 or int8",
        why="HTP converts a uint16 one to 8 bits, silently",
        check=_products,
    ),
    Rule(
        id="QNN-27",
        severity=Severity.ERROR,
        statement="Resize to the nearest pixel: half_pixel or align_corners with round_prefer_floor or "
        "_ceil, or "
        "asymmetric with floor; at ratios that are not whole half_pixel with round_prefer_ceil or the last "
        "one",
        why="accepted with wrong pixels, or refused",
        check=_nearest,
    ),
)
