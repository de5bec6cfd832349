"""Quantizers that repeat each other: around copies, on one tensor, one after another."""

from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from fxquant.lint.edit import replace
from fxquant.lint.graph import (
    COPIES,
    Graph,
    dequantize_of,
    is_dequantize,
    is_quantize,
    readers,
    source,
)
from fxquant.lint.rule import Match, Rule, Severity
from fxquant.lint.tensorrt.patterns import CONVOLUTIONS

_QUANTIZABLE = frozenset(
    {
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "AveragePool", "GlobalAveragePool"),
        *("Concat", "Resize", "Upsample"),
    }
)
_FUSED = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "HardSigmoid", "BatchNormalization"})


def _requantizing_copies(graph: Graph) -> Iterator[Match]:
    for node in graph.nodes:
        before = dequantize_of(node.inputs[0]) if node.op_type in COPIES else None
        if before is None or source(before) is None:
            continue
        for output in node.outputs:
            for after in filter(is_quantize, readers(output)):
                if not graph.encoding(after).has_scale_of(graph.encoding(before)):
                    message = f"{node.op_type} copies values, yet its output has another scale."
                    yield Match(node=node, tensor=output, message=message, remedy="Share one scale.")


def _repeated_quantizers(graph: Graph) -> Iterator[Match]:
    for value, group in _groups(graph):
        first = graph.encoding(group[0])
        equal = [node for node in group[1:] if graph.encoding(node).has_grid_of(first)]
        if equal:
            message = f"'{value.name}' is quantized {len(equal) + 1} times on one grid."
            yield Match(
                node=group[0], tensor=value, message=message, remedy="Quantize it once.", is_fixable=True
            )
        if len(equal) < len(group) - 1 and not _is_shortcut(graph, group):
            message = f"'{value.name}' is quantized on {len(group) - len(equal)} grids."
            yield Match(node=group[0], tensor=value, message=message, remedy="One scale for all readers.")


def _shortcuts(graph: Graph) -> Iterator[Match]:
    for value, group in _groups(graph):
        if _is_shortcut(graph, group):
            message = f"'{value.name}' has one scale for its convolution and another for the shortcut."
            yield Match(
                node=group[0], tensor=value, message=message, remedy="Use the convolution's for both."
            )


def _groups(graph: Graph) -> Iterator[tuple[ir.Value, list[ir.Node]]]:
    """Yield each tensor that several QuantizeLinear nodes read."""
    seen: dict[ir.Value, list[ir.Node]] = {}
    for node in graph.of("QuantizeLinear"):
        if node.inputs[0] is not None:
            seen.setdefault(node.inputs[0], []).append(node)
    yield from ((value, group) for value, group in seen.items() if len(group) > 1)


def _is_shortcut(graph: Graph, group: list[ir.Node]) -> bool:
    """Whether two quantizers differ, of which one serves a convolution and the other an add only."""
    if graph.encoding(group[0]).has_grid_of(graph.encoding(group[-1])) or len(group) != 2:
        return False
    served = [{node.op_type for node in _served(quantize)} for quantize in group]
    return any(kinds == {"Add"} for kinds in served) and any(kinds & set(CONVOLUTIONS) for kinds in served)


def _served(quantize: ir.Node) -> list[ir.Node]:
    pairs = filter(is_dequantize, readers(quantize.outputs[0]))
    return [reader for pair in pairs for reader in readers(pair.outputs[0])]


def _merge(graph: Graph) -> int:
    """Let the readers of equal quantizers of one tensor read the first; return how many went."""
    fixed = 0
    for _, group in list(_groups(graph)):
        first = group[0]
        for node in group[1:]:
            same_graph = node.graph is first.graph and node.graph is not None
            if not same_graph or not graph.encoding(node).has_grid_of(graph.encoding(first)):
                continue
            if node.outputs[0].is_graph_output():
                continue
            replace(node.outputs[0], first.outputs[0])
            assert node.graph is not None
            node.graph.remove(node, safe=True)
            fixed += 1
    return fixed


def _chained(graph: Graph) -> Iterator[tuple[ir.Node, ir.Node]]:
    """Yield (DequantizeLinear, QuantizeLinear) where one follows the other."""
    for node in graph.of("QuantizeLinear"):
        before = dequantize_of(node.inputs[0])
        if before is not None and source(before) is not None:
            yield before, node


def _chains(graph: Graph) -> Iterator[Match]:
    for before, node in _chained(graph):
        is_same = graph.encoding(before).has_grid_of(graph.encoding(node))
        yield Match(
            node=node,
            tensor=node.inputs[0],
            message="quantizes what was just dequantized, on "
            + ("the same grid." if is_same else "another grid."),
            remedy="Drop it." if is_same else "One scale for this edge.",
            is_fixable=is_same,
        )


def _drop_chained(graph: Graph) -> int:
    """Let the readers of a second, equal quantizer read the codes of the first; return how many went."""
    fixed = 0
    for before, node in list(_chained(graph)):
        codes = before.inputs[0]
        if codes is None or node.graph is None or node.outputs[0].is_graph_output():
            continue
        if not graph.encoding(before).has_grid_of(graph.encoding(node)):
            continue
        replace(node.outputs[0], codes)
        node.graph.remove(node, safe=True)
        if not readers(before.outputs[0]) and not before.outputs[0].is_graph_output():
            assert before.graph is not None
            before.graph.remove(before, safe=True)
        fixed += 1
    return fixed


def _islands(graph: Graph) -> Iterator[Match]:
    """Give each kind of op once that reads only INT8, hands out only INT8 and has no integer kernel."""
    islands: dict[str, list[ir.Node]] = {}
    for node in graph.computing:
        if node.op_type in COPIES | _QUANTIZABLE | _FUSED or not node.inputs:
            continue
        reads = [value for value in node.inputs if value is not None and not graph.is_constant(value)]
        gives = [reader for output in node.outputs for reader in readers(output)]
        if reads and gives and all(map(dequantize_of, reads)) and all(map(is_quantize, gives)):
            islands.setdefault(node.op_type, []).append(node)
    for op_type, nodes in islands.items():
        count = Counter(node.op_type for node in nodes)[op_type]
        message = f"{count} {op_type} in a region of INT8 runs in float: two reformats each."
        yield Match(node=nodes[0], message=message, remedy="Leave its neighbours float, if they are cheap.")


def _float_twins(graph: Graph) -> Iterator[Match]:
    for node in graph.of("AveragePool", "GlobalAveragePool"):
        value = node.inputs[0]
        if value is not None and any(map(is_quantize, readers(value))):
            message = f"reads '{value.name}' in float, which others read in INT8: it is written twice."
            yield Match(node=node, tensor=value, message=message, remedy="Let it read the quantized one.")


def _broken_regions(graph: Graph) -> Iterator[Match]:
    yield from _islands(graph)
    yield from _float_twins(graph)


COPY_RULES = (
    Rule(
        id="P08",
        severity=Severity.WARNING,
        statement="what copies values has one scale before and after",
        why="another scale turns a copy into a requantization",
        check=_requantizing_copies,
        no_fix="another scale is another rounding",
    ),
    Rule(
        id="P10",
        severity=Severity.WARNING,
        statement="a tensor has one quantizer, whoever reads it",
        why="each further one is a kernel, and a reformat per reader",
        check=_repeated_quantizers,
        fix=_merge,
        no_fix="different scales are different numbers",
    ),
    Rule(
        id="P24",
        severity=Severity.WARNING,
        statement="regions of INT8 are contiguous, and a pool reads the INT8 tensor where there is one",
        why="each float op inside one costs two reformats; a tensor read both ways is written twice",
        check=_broken_regions,
        no_fix="what reads a quantized tensor instead gives other numbers",
    ),
    Rule(
        id="P25",
        severity=Severity.WARNING,
        statement="no quantizer directly after another",
        why="a kernel more, and a second rounding where scales differ",
        check=_chains,
        fix=_drop_chained,
        no_fix="a second rounding on another grid is part of the numbers",
    ),
    Rule(
        id="P28",
        severity=Severity.INFO,
        statement="an identity shortcut uses the scale of the convolution that reads the same tensor",
        why="it is one tensor: P10",
        check=_shortcuts,
        no_fix="different scales are different numbers",
    ),
)
