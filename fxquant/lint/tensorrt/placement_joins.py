"""Quantizers where tensors meet: residual adds, arithmetic, concatenations, pools, outputs of the model."""

from collections.abc import Iterator

import onnx_ir as ir

from fxquant.lint.graph import (
    COPIES,
    WEIGHTED,
    Graph,
    behind,
    dequantize_before,
    quantizes_after,
    readers,
    source,
)
from fxquant.lint.rule import Match, Rule, Severity
from fxquant.lint.tensorrt.paths import depth_below_common_ancestor
from fxquant.lint.tensorrt.patterns import (
    ACTIVATIONS,
    conv_behind,
    is_quantized,
    is_stored,
    runs_int8,
    silu_input,
)

_ARITHMETIC = ("Add", "Mul", "Sub", "Div")
_WITHOUT_WEIGHTS = ("Add", "Mul", "AveragePool", "GlobalAveragePool")
_THROUGH = COPIES | {"QuantizeLinear", "DequantizeLinear"}


def _branches(graph: Graph, add: ir.Node) -> list[tuple[ir.Value, ir.Node | None]]:
    """Return each input of an add, before any Q/DQ, with the INT8 convolution that backs it or None."""
    found = []
    for value in add.inputs:
        pair = dequantize_before(value)
        origin = value if pair is None else source(pair)
        if origin is None or value is None:
            return []
        is_alone = pair is None or (len(readers(pair.outputs[0])) == 1 and not _is_shared(pair))
        node = conv_behind(origin, graph) if is_alone else None
        found.append((origin, node if node is not None and runs_int8(graph, node) else None))
    return found if len(found) == 2 and not any(is_stored(graph, value) for value in add.inputs) else []


def _is_shared(pair: ir.Node) -> bool:
    """Whether the codes that a DequantizeLinear reads are read by another one too."""
    return pair.inputs[0] is not None and len(readers(pair.inputs[0])) > 1


def _residual_adds(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Add"):
        branches = _branches(graph, node)
        backed = [index for index, (_, conv) in enumerate(branches) if conv is not None]
        if not backed or branches[0][0] is branches[1][0]:
            continue
        floats = [index for index in (0, 1) if not is_quantized(graph, node.inputs[index])]
        if not floats:
            message = "both inputs are quantized: the add does not fuse into its convolution."
            yield Match(node=node, message=message, remedy="Leave the convolution's branch unquantized.")
        elif len(floats) == 2:
            other = branches[1 - backed[0]][0] if len(backed) == 1 else branches[backed[0]][0]
            message = f"both inputs are float: the convolution behind '{other.name}' then hands out float."
            yield Match(node=node, tensor=other, message=message, remedy="Quantize the branch without it.")
        elif floats[0] not in backed:
            message = "the branch without a convolution is float, the one with it is quantized."
            yield Match(node=node, message=message, remedy="Quantize the other branch.")


def _shorter_branches(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Add"):
        branches = _branches(graph, node)
        if len(branches) < 2 or any(conv is None for _, conv in branches):
            continue
        floats = [index for index in (0, 1) if not is_quantized(graph, node.inputs[index])]
        if len(floats) != 1:
            continue
        own, other = branches[floats[0]][0], branches[1 - floats[0]][0]
        depths = depth_below_common_ancestor(graph, own, other)
        if depths is not None and depths[0] < depths[1]:
            message = f"the shorter branch stays float: {depths[0]} nodes against {depths[1]}."
            yield Match(node=node, tensor=own, message=message, remedy=f"Leave '{other.name}' float instead.")


def _constants(graph: Graph) -> Iterator[Match]:
    for node in graph.of(*_ARITHMETIC):
        stored = [value for value in node.inputs if is_stored(graph, value)]
        if len(stored) != 1 or not any(is_quantized(graph, value) for value in node.inputs):
            continue
        message = f"{node.op_type} with a constant is quantized."
        yield Match(node=node, message=message, remedy="It fuses as float into the layer before it.")


def _float_outputs(graph: Graph) -> Iterator[Match]:
    for node in graph.of(*_WITHOUT_WEIGHTS):
        values = [value for value in node.inputs if value is not None]
        if not all(is_quantized(graph, value) for value in values) or any(
            is_stored(graph, v) for v in values
        ):
            continue
        if not _reaches_quantizer(node.outputs[0]):
            message = "reads INT8 and hands out float: an op without weights has no such kernel."
            yield Match(node=node, message=message, remedy="Quantize its output, or leave its inputs float.")


def _reaches_quantizer(value: ir.Value) -> bool:
    """Whether something quantizes a value, through copies and one activation."""
    if quantizes_after(value):
        return True
    after = [node for node in readers(value) if node.op_type in ACTIVATIONS]
    return any(quantizes_after(node.outputs[0]) for node in after)


def _concatenations(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Concat"):
        pairs = [pair for value in node.inputs if (pair := dequantize_before(value)) is not None]
        pairs = [pair for pair in pairs if source(pair) is not None]
        after = quantizes_after(node.outputs[0])
        if not pairs:
            continue
        if not after:
            message = "reads INT8, but nothing quantizes its output."
            yield Match(node=node, message=message, remedy="Leave its inputs float.")
            continue
        first = graph.encoding(after[0])
        differing = [pair for pair in (*pairs, *after) if not graph.encoding(pair).has_scale_of(first)]
        if differing:
            message = f"{len(differing)} of its tensors have another scale than its output."
            yield Match(node=node, message=message, remedy="One scale for all inputs and the output.")


def _outputs(graph: Graph) -> Iterator[Match]:
    for value in graph.model.graph.outputs:
        origin = behind(value, _THROUGH)
        node = origin.producer() if origin is not None else None
        if node is None or origin is None or node.op_type in WEIGHTED:
            continue
        is_requantized = dequantize_before(value) is not None
        reads = [item for item in node.inputs if item is not None and not is_stored(graph, item)]
        computes_int8 = node.op_type in _WITHOUT_WEIGHTS and all(is_quantized(graph, item) for item in reads)
        if is_requantized or computes_int8:
            message = f"gives the model's output '{value.name}' and is quantized."
            yield Match(node=node, tensor=value, message=message, remedy="Leave it float.")


def _silu_adds(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Add"):
        for value in node.inputs:
            gate = value.producer() if value is not None else None
            if gate is None or gate.op_type != "Mul" or silu_input(gate) is None or value is None:
                continue
            conv = conv_behind(value, graph)
            if conv is not None and runs_int8(graph, conv):
                yield Match(
                    node=node, tensor=value, message="adds to a SiLU: seen not to fuse as one kernel."
                )


JOIN_RULES = (
    Rule(
        id="P04",
        severity=Severity.WARNING,
        statement="of a residual add's inputs, exactly the one behind a convolution is float",
        why="two quantized inputs part the add from the convolution; two float ones make it hand out float",
        check=_residual_adds,
        no_fix="adding or dropping a quantizer changes numbers",
    ),
    Rule(
        id="P05",
        severity=Severity.WARNING,
        statement="of two branches behind convolutions the longer one is float",
        why="TensorRT fuses the add into the convolution that runs last",
        check=_shorter_branches,
        no_fix="adding or dropping a quantizer changes numbers",
    ),
    Rule(
        id="P06",
        severity=Severity.WARNING,
        statement="arithmetic with a constant is not quantized",
        why="a bias or a factor belongs to the layer before it",
        check=_constants,
        no_fix="adding or dropping a quantizer changes numbers",
    ),
    Rule(
        id="P07",
        severity=Severity.WARNING,
        statement="Add, Mul and average pools that read INT8 have their output quantized",
        why='"non-weighted layers with INT8 inputs also require INT8 outputs"',
        check=_float_outputs,
        no_fix="a new quantizer needs calibration",
    ),
    Rule(
        id="P09",
        severity=Severity.WARNING,
        statement="a quantized Concat has one scale for inputs and output; with float readers it is float",
        why="equal scales cost nothing, others compute before the copy",
        check=_concatenations,
        no_fix="another scale is another rounding; equal ones are no finding",
    ),
    Rule(
        id="P11",
        severity=Severity.WARNING,
        statement="what gives an output of the model is not quantized, weighted ops aside",
        why="a rounding that nothing gains from",
        check=_outputs,
        no_fix="dropping a quantizer changes numbers",
    ),
    Rule(
        id="P27",
        severity=Severity.INFO,
        statement="an add behind Conv and SiLU may not fuse",
        why="seen by users: only Conv, BatchNormalization, Add and Relu run as one kernel",
        check=_silu_adds,
    ),
)
