"""Shapes that HTP takes, and advice that a file does not tell."""

from collections.abc import Iterator

from fxquant.lint.graph import Graph, dims
from fxquant.lint.rule import Match, Rule, Severity

_HIGHEST = 5


def _shapes(graph: Graph) -> Iterator[Match]:
    for value in graph.model.graph.inputs:
        shape = dims(value)
        if shape is not None and None in shape:
            message = f"input '{value.name}' has sizes that vary: refused."
            yield Match(node=None, tensor=value, message=message, remedy="Export with fixed sizes.")
    for node in graph.computing:
        for value in node.outputs:
            shape = dims(value)
            if shape is not None and len(shape) > _HIGHEST:
                message = f"a tensor of rank {len(shape)}: refused, {_HIGHEST} is the most."
                yield Match(node=node, tensor=value, message=message, remedy="Reshape to fewer axes.")
                break


SHAPE_RULES = (
    Rule(
        id="QNN-25",
        severity=Severity.ERROR,
        statement="shapes are fixed, of rank 5 at most",
        why="refused",
        check=_shapes,
    ),
)
QUALCOMM_ADVICE = (
    Rule(
        id="QNN-11",
        severity=Severity.INFO,
        statement="Softmax, Sigmoid and Tanh may have any output encoding; 1/256 (1/65536) from 0 is "
        "customary",
        why="calibrated ranges measure the same",
    ),
    Rule(
        id="QNN-21",
        severity=Severity.INFO,
        statement="the session names a soc_model",
        why="an unset target is V68: no 16-bit weights, no blocks, less exact 16-bit activations",
    ),
    Rule(
        id="QNN-22",
        severity=Severity.INFO,
        statement="a file is accepted when it runs without fallback, without fp16 islands and within 2 steps",
        why="a session that compiles may be full of islands",
    ),
)
