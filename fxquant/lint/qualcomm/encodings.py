"""Encodings that two tensors have to share, types that a product takes, and pixels that Resize picks."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from fxquant.lint.graph import Graph, dims, ints_attribute, is_quantize, readers, text_attribute
from fxquant.lint.qualcomm.units import Unit, unit_of, units
from fxquant.lint.rule import Match, Rule, Severity

# What becomes of what moves values when its output has another encoding; what is not here requantizes.
_FLOAT_AT_ANOTHER_SCALE = frozenset(
    {
        *("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Gather", "MaxPool", "Resize"),
        *("Identity", "Transpose"),
    }
)
_WRONG_AT_ANOTHER_SCALE = frozenset({"DepthToSpace", "SpaceToDepth"})
_WRONG_AT_ANOTHER_ZERO = frozenset({"DepthToSpace", "SpaceToDepth", "Resize"})
_WRONG_AT_ANOTHER_ZERO_AT_THE_END = frozenset({"Transpose"})
_REFUSED_AT_ANOTHER_ZERO = frozenset({"Gather", "Tile"})
_MIDDLE = 128
_NEAREST = {
    "half_pixel": ("round_prefer_floor", "round_prefer_ceil"),
    "align_corners": ("round_prefer_floor", "round_prefer_ceil"),
    "pytorch_half_pixel": ("round_prefer_floor", "round_prefer_ceil"),
    "asymmetric": ("floor",),
}
_ANY_RATIO = {("half_pixel", "round_prefer_ceil"), ("asymmetric", "floor")}


def _moved(graph: Graph) -> Iterator[Match]:
    for unit in units(graph):
        first = next(iter(unit.operands), None)
        given = graph.encoding(unit.quantizes[0]) if unit.quantizes else None
        if first is None or given is None or _changes_layout(unit.node):
            continue
        read = first.encoding
        if read is None or read.dtype != given.dtype:
            if first.is_stored and unit.node.op_type in _FLOAT_AT_ANOTHER_SCALE:
                message = f"reads {first.code or 'float'} and gives another type: it runs in fp16."
                yield Match(
                    node=unit.node,
                    message=message,
                    remedy="Store the table on the grid of the output.",
                    severity=Severity.WARNING,
                )
            continue
        if not read.has_scale_of(given):
            changed, (outcome, severity) = "the scale", _at_another_scale(unit.node.op_type)
        elif not read.has_zero_point_of(given):
            changed, (outcome, severity) = "the zero point", _at_another_zero(unit)
        else:
            continue
        if outcome:
            message = f"{unit.node.op_type} changes {changed}: {outcome}."
            yield Match(
                node=unit.node, message=message, remedy="Use the encoding of its input.", severity=severity
            )
    yield from _split(graph)


def _changes_layout(node: ir.Node) -> bool:
    """Whether a Transpose moves channels last or first: HTP does that, and requantizes, as part of others."""
    order = ints_attribute(node, "perm") if node.op_type == "Transpose" else None
    if order is None:
        return False
    rest = list(range(2, len(order)))
    return order in ([0, *rest, 1], [0, len(order) - 1, *range(1, len(order) - 1)])


def _at_another_scale(op_type: str) -> tuple[str, Severity | None]:
    if op_type in _WRONG_AT_ANOTHER_SCALE:
        return "numbers are off by that factor", None
    return ("it runs in fp16", Severity.WARNING) if op_type in _FLOAT_AT_ANOTHER_SCALE else ("", None)


def _at_another_zero(unit: Unit) -> tuple[str, Severity | None]:
    op_type = unit.node.op_type
    if op_type in _WRONG_AT_ANOTHER_ZERO:
        return "numbers are off by that difference", None
    if op_type in _WRONG_AT_ANOTHER_ZERO_AT_THE_END:
        pairs = [reader for quantize in unit.quantizes for reader in readers(quantize.outputs[0])]
        ends = any(pair.outputs[0].is_graph_output() for pair in pairs)
        said = "numbers are off by that difference where the model ends with it"
        return said, None if ends else Severity.WARNING
    return ("refused", None) if op_type in _REFUSED_AT_ANOTHER_ZERO else ("", None)


def _split(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Split"):
        for output in node.outputs:
            if unit_of(graph, node).quantizes and not any(map(is_quantize, readers(output))):
                message = f"'{output.name}' has no quantizer: all of the Split runs in fp16."
                yield Match(node=node, tensor=output, message=message, severity=Severity.WARNING)


def _products(graph: Graph) -> Iterator[Match]:
    for unit in units(graph):
        if unit.node.op_type != "MatMul" or len(unit.activations) != 2:
            continue
        first, second = unit.activations
        grid = second.encoding
        if first.code != "u16" or grid is None or second.code not in ("u16", "u8"):
            continue
        if second.code == "u16":
            said = "the second is narrowed to 8 bits"
        elif grid.zero_point is not None and np.all(grid.zero_point == _MIDDLE):
            continue
        else:
            said = f"the zero point of the second is not {_MIDDLE}"
        yield Match(
            node=unit.node,
            tensor=second.value,
            message=f"a product of u16 and {second.code}: {said}, results are off by about 200 steps.",
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
        statement="what moves values has one encoding before and after; every output of Split is quantized",
        why="another scale: fp16, or wrong numbers from DepthToSpace and SpaceToDepth; another zero point: "
        "wrong "
        "from these, Resize and Transpose, refused in Gather and Tile; Slice, Split, Pad, Concat, pools and "
        "a "
        "Transpose of the layout may have another encoding",
        check=_moved,
    ),
    Rule(
        id="QNN-19",
        severity=Severity.ERROR,
        statement="the second operand of a product with a uint16 activation is int16, int8 or uint8 around "
        "128",
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
