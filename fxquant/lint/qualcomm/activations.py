"""Activation functions: which of them fuse, which HTP lacks, and which it computes wrongly."""

from collections.abc import Iterator

import onnx_ir as ir

from fxquant.lint.graph import Graph, dequantize_of, is_quantize, rank, readers, source
from fxquant.lint.qualcomm.boundaries import bias_product
from fxquant.lint.qualcomm.units import Unit, code_of, unit_of, units
from fxquant.lint.rule import Match, Rule, Severity
from fxquant.targets.htp_support import Kind, htp_support

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_NOT_FUSING = (
    *("HardSwish", "Sigmoid", "HardSigmoid", "LeakyRelu", "PRelu", "Gelu", "Elu", "Tanh", "Softplus", "Mish"),
    *("Mul", "Swish", "Selu"),
)
_SIGNED = ("s8", "s16")
_GEMM_RANK = 2  # of a product that ONNX Runtime joins with its bias


def _clips(graph: Graph) -> Iterator[Match]:
    for unit in units(graph):
        if unit.clip is None or not unit.quantizes:
            continue
        low, high = _limits(graph, unit.clip)
        bounds = graph.encoding(unit.quantizes[0]).bounds
        if bounds is None or (bounds[0] >= low and bounds[1] <= high):
            continue
        kind = unit.clip.op_type
        is_layer = unit.node.op_type in _LAYERS or bias_product(graph, unit.node) is not None
        outcome = "refused" if is_layer else "it runs in fp16"
        yield Match(
            node=unit.node,
            tensor=unit.clip.outputs[0],
            message=f"{kind} to [{low:g}, {high:g}] does not fuse: its output's grid spans "
            f"[{bounds[0]:.4g}, {bounds[1]:.4g}]: {outcome}.",
            remedy="Let the grid end at the bounds, or quantize before it.",
            severity=None if outcome == "refused" else Severity.WARNING,
        )


def _limits(graph: Graph, clip: ir.Node) -> tuple[float, float]:
    if clip.op_type == "Relu":
        return 0.0, float("inf")
    limits = [float("-inf"), float("inf")]
    for index in (0, 1):
        found = graph.constant(clip.inputs[index + 1]) if len(clip.inputs) > index + 1 else None
        if found is not None:
            limits[index] = float(found.reshape(-1)[0])
    return limits[0], limits[1]


def _unquantized_between(graph: Graph) -> Iterator[Match]:
    for node in graph.of(*_LAYERS):
        output = node.outputs[0]
        for reader in readers(output):
            if reader.op_type in _NOT_FUSING and any(map(is_quantize, readers(reader.outputs[0]))):
                unit = unit_of(graph, node)
                refused = unit.has_fine_weights or node.op_type == "Gemm"
                yield Match(
                    node=reader,
                    message=f"no quantizer between {node.op_type} and {reader.op_type}: "
                    + ("refused." if refused else "both run in fp16."),
                    remedy=f"Quantize the output of the {node.op_type}.",
                    severity=None if refused else Severity.WARNING,
                )


def _erf(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Erf"):
        after = readers(node.outputs[0])
        is_quantized = dequantize_of(node.inputs[0]) is not None or any(map(is_quantize, after))
        before = node.inputs[0].producer() if node.inputs[0] is not None else None
        is_gelu = (
            before is not None and before.op_type in ("Div", "Mul") and [n.op_type for n in after] == ["Add"]
        )
        fuses = is_gelu and not is_quantized
        yield Match(
            node=node,
            message="HTP has no Erf: " + ("as part of GELU it runs in fp16." if fuses else "refused."),
            remedy="Export Gelu (opset 20), quantized on both sides.",
            severity=Severity.WARNING if fuses else None,
        )


def _bias_adds(graph: Graph) -> Iterator[Match]:
    for node in graph.of("Add"):
        product = bias_product(graph, node)
        if product is None:
            continue
        unit = unit_of(graph, node)
        bias = next(operand for operand in unit.operands if operand.is_stored)
        if bias.code not in ("", "s32"):
            message = f"a {bias.code} bias, added without a quantizer in between: refused."
            yield Match(node=node, tensor=bias.value, message=message, remedy="Quantize the product first.")
        elif bias.encoding is None and unit.clip is not None and rank(product.outputs[0]) != _GEMM_RANK:
            refused = unit_of(graph, product).has_fine_weights
            yield Match(
                node=node,
                tensor=bias.value,
                message=f"a float bias and {unit.clip.op_type} without a quantizer in between: "
                + ("refused." if refused else "it runs in fp16."),
                remedy="Quantize the product first.",
                severity=None if refused else Severity.WARNING,
            )


def _signed(graph: Graph) -> Iterator[Match]:
    signed = [node for node in graph.of("QuantizeLinear") if code_of(graph.encoding(node)) in _SIGNED]
    if signed:
        message = f"{len(signed)} activations are signed: about 20 operators lack kernels for that."
        yield Match(
            node=None, message=message, remedy="Use uint8 or uint16, asymmetric.", severity=Severity.INFO
        )
    for unit in units(graph):
        if unit.node.op_type != "Clip" or not unit.activations:
            continue
        operand = unit.activations[0]
        layer = _layer_before(graph, operand.dequantize)
        grid = operand.encoding
        if layer is not None and grid is not None and operand.code == "s8" and grid.is_symmetric:
            message = f"int8 Clip after {layer.op_type} is not applied: negative values pass."
            yield Match(node=unit.node, message=message, remedy="Use uint8 activations.")


def _layer_before(graph: Graph, pair: ir.Node | None) -> ir.Node | None:
    origin = None if pair is None else source(pair)
    node = None if origin is None else origin.producer()
    return node if node is not None and node.op_type in _LAYERS else None


def _kernels(graph: Graph) -> Iterator[Match]:
    for unit in units(graph):
        code = _code(graph, unit)
        support = htp_support(unit.node.op_type, code) if code else None
        if support is None:
            continue
        if support.kind is Kind.NONE:
            yield Match(node=unit.node, message=f"{unit.node.op_type} on {code}: refused.", remedy=_OTHER)
        elif support.is_wrong and not _is_asymmetric(graph, unit):
            message = (
                f"{unit.node.op_type} on {code} gives other numbers, by up to {support.steps:.0f} steps."
            )
            yield Match(node=unit.node, message=message, remedy=_OTHER)
        elif support.kind is Kind.FLOAT and unit.node.op_type != "Identity":
            message = f"{unit.node.op_type} on {code} runs in fp16."
            yield Match(node=unit.node, message=message, severity=Severity.WARNING)
    for node in graph.of("GroupNormalization"):
        if not _code(graph, unit_of(graph, node)):
            yield Match(node=node, message="GroupNormalization fails, and does not fall back.", remedy=_OTHER)


_OTHER = "Use another type there, or other operators."


def _code(graph: Graph, unit: Unit) -> str:
    """Return the type that an operator runs on: of its input, or of its output where both are one."""
    read = [operand.code for operand in unit.activations]
    given = [code_of(graph.encoding(node)) for node in unit.quantizes]
    return read[0] if read and read[0] and given[:1] in ([read[0]], []) else ""


def _is_asymmetric(graph: Graph, unit: Unit) -> bool:
    return (
        any(not graph.encoding(node).is_symmetric for node in unit.quantizes)
        and _code(graph, unit) in _SIGNED
    )


ACTIVATION_RULES = (
    Rule(
        id="QNN-4",
        severity=Severity.ERROR,
        statement="Relu and Clip without a quantizer before them end where the grid of their output ends",
        why="then they fuse; otherwise the layer is refused, or Add and Mul run in fp16",
        check=_clips,
    ),
    Rule(
        id="QNN-5",
        severity=Severity.ERROR,
        statement="a quantizer stands between a layer and any other activation function",
        why="per-channel layers are refused, others run in fp16",
        check=_unquantized_between,
    ),
    Rule(
        id="QNN-6",
        severity=Severity.ERROR,
        statement="GELU is one Gelu operator",
        why="HTP has no Erf",
        check=_erf,
    ),
    Rule(
        id="QNN-7",
        severity=Severity.ERROR,
        statement="a bias added to MatMul without a quantizer in between is int32, or float in 2-d or "
        "without Relu",
        why="refused",
        check=_bias_adds,
    ),
    Rule(
        id="QNN-10",
        severity=Severity.ERROR,
        statement="activations are uint8 or uint16, asymmetric",
        why="int8 Clip after a layer is not applied; about 20 operators lack signed kernels",
        check=_signed,
    ),
    Rule(
        id="QNN-12",
        severity=Severity.ERROR,
        statement="every operator has an integer kernel for its type of activation that gives the right "
        "numbers",
        why="measured, operator by operator (fxquant/targets/htp_support.csv): refused, wrong or fp16",
        check=_kernels,
    ),
)
