"""Biases, and the gamma and beta of normalizations."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from fxquant.lint.biases import inline, inlined
from fxquant.lint.encoding import Encoding
from fxquant.lint.graph import Graph
from fxquant.lint.qualcomm.units import Operand, layer_input, units, weight_of
from fxquant.lint.rule import Match, Rule, Severity

_LAYERS = ("Conv", "ConvTranspose", "Gemm")
_GAMMAS = {  # (operator, activation) -> types of gamma with an integer kernel, beta int32 or absent
    ("LayerNormalization", "u8"): ("u8",),
    ("LayerNormalization", "s8"): ("s8",),
    ("LayerNormalization", "u16"): ("u8", "s16"),
    ("LayerNormalization", "s16"): (),
    ("RMSNormalization", "u8"): ("u8",),
    ("RMSNormalization", "s8"): (),
    ("RMSNormalization", "u16"): ("u8", "u16", "s16"),
    ("RMSNormalization", "s16"): ("u8", "s16"),
    ("InstanceNormalization", "u8"): ("u8", "s8"),
    ("InstanceNormalization", "s8"): (),
    ("InstanceNormalization", "u16"): ("u8", "s8", "u16"),
    ("InstanceNormalization", "s16"): (),
}


def _biases(graph: Graph) -> Iterator[Match]:
    for unit in units(graph):
        given, weight = layer_input(unit), weight_of(unit)
        bias = unit.operands[2] if unit.node.op_type in _LAYERS and len(unit.operands) > 2 else None
        if bias is None or bias.encoding is None or given is None or given.encoding is None:
            continue
        message, severity = _fault(given, weight, bias)
        if message:
            fixable = bias.dequantize is not None and inlined(graph, bias.dequantize) is not None
            remedy = "Store float(codes) * scale: ONNX Runtime makes int32 of it at the right scale."
            yield Match(
                node=unit.node,
                tensor=bias.value,
                message=message,
                remedy=remedy if fixable else "Store int32 at scale_input * scale_weight.",
                severity=severity,
                is_fixable=fixable and not _has_blocks(weight),
            )


def _fault(given: Operand, weight: Operand | None, bias: Operand) -> tuple[str, Severity | None]:
    """Return what is wrong with a bias, and how bad that is; nothing where it is right."""
    if bias.code != "s32":
        return f"a {bias.code} bias: refused.", None
    if weight is None or weight.encoding is None or _has_blocks(weight):
        return "", None
    assert bias.encoding is not None and given.encoding is not None
    wanted = _product(given.encoding, weight.encoding)
    if wanted is None or _is_scale(bias.encoding, wanted):
        return "", None
    said = "its scale is not scale_input * scale_weight"
    if given.code in ("u16", "s16"):
        return f"{said}: off by up to thousands of steps.", None
    if bias.encoding.is_per_tensor and wanted.size > 1:
        return f"{said}, and one stands for many: off by tens of steps.", None
    return f"{said}, which 8 bits forgive.", Severity.INFO


def _has_blocks(weight: Operand | None) -> bool:
    return weight is not None and weight.encoding is not None and weight.encoding.block_size > 0


def _inline_biases(graph: Graph) -> int:
    """Store the float numbers of each bias that HTP gets wrong or refuses; return how many."""
    fixed = 0
    for unit in units(graph):
        given, weight = layer_input(unit), weight_of(unit)
        bias = unit.operands[2] if unit.node.op_type in _LAYERS and len(unit.operands) > 2 else None
        if bias is None or bias.dequantize is None or given is None or given.encoding is None:
            continue
        if _fault(given, weight, bias)[0] and not _has_blocks(weight):
            fixed += inline(graph, bias.dequantize)
    return fixed


def _product(given: Encoding, weight: Encoding) -> np.ndarray | None:
    if given.scale is None or weight.scale is None or given.scale.size != 1:
        return None
    return np.asarray(given.scale.reshape(-1)[0] * weight.scale.reshape(-1), np.float32)


def _is_scale(bias: Encoding, wanted: np.ndarray) -> bool:
    """Whether a bias has the scales wanted; one for all where they are all equal counts."""
    if bias.scale is None or bias.scale.dtype != np.float32:
        return False
    return bias.is_symmetric and bool(np.all(bias.scale.reshape(-1) == wanted))


def _normalizations(graph: Graph) -> Iterator[Match]:
    for unit in units(graph):
        given = unit.operands[0] if unit.operands else None
        allowed = None if given is None else _GAMMAS.get((unit.node.op_type, given.code))
        if allowed is None or given is None or len(unit.operands) < 2:
            continue
        gamma, beta = unit.operands[1], unit.operands[2] if len(unit.operands) > 2 else None
        floats = [operand for operand in (gamma, beta) if operand is not None and operand.encoding is None]
        if floats:
            yield _parameter(unit.node, floats[0], "is float: it runs in fp16.", allowed, Severity.WARNING)
        elif gamma.code not in allowed:
            said = f"is {gamma.code} on {given.code} activations: refused."
            yield _parameter(unit.node, gamma, said, allowed, None)
        elif beta is not None and beta.code != "s32":
            said = f"is {beta.code}: it runs in fp16."
            yield _parameter(unit.node, beta, said, ("int32",), Severity.WARNING)


def _parameter(
    node: ir.Node, operand: Operand, said: str, allowed: tuple[str, ...], severity: Severity | None
) -> Match:
    remedy = f"Use {' or '.join(allowed)}." if allowed else "No type fits these activations."
    message = f"'{operand.value.name}' {said}"
    return Match(node=node, tensor=operand.value, message=message, remedy=remedy, severity=severity)


PARAMETER_RULES = (
    Rule(
        id="QNN-14",
        severity=Severity.ERROR,
        statement="a bias is int32 with scale exactly scale_input * scale_weight, or float, or absent",
        why="at another scale it is silently wrong at 16 bits, and at 8 bits where one scale stands for many",
        check=_biases,
        fix=_inline_biases,
    ),
    Rule(
        id="QNN-20",
        severity=Severity.ERROR,
        statement="gamma is quantized with a type that the normalization takes, uint8 first of all; beta is "
        "int32",
        why="another gamma is refused; a float gamma or beta, or a uint8 beta, runs in fp16",
        check=_normalizations,
    ),
)
