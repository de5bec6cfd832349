"""KernelUnit: a call with the quantizers around it that an integer kernel computes as one."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fxquant.arithmetic import Arithmetic, KernelRule
from fxquant.graph.values import is_quantizer, op_of, quantizer_of
from fxquant.nn import QuantizationMixin
from fxquant.ops import Op
from fxquant.quantization import AffineEncoding, QuantizerBase
from fxquant.quantization.affine import FrozenDequantize

_WEIGHT_STEPS = 255  # of an 8-bit grid


@dataclass(frozen=True, kw_only=True)
class KernelUnit:
    """What stands around a call that a kernel computes.

    Attributes:
        inputs: The quantizers of its activations, in order.
        output: The quantizer behind it, or behind its activation; None where it hands out real values.
    """

    inputs: tuple[QuantizerBase, ...]
    output: QuantizerBase | None


def unit_of(
    gm: fx.GraphModule, node: fx.Node, op: Op, rule: KernelRule, arithmetic: Arithmetic
) -> KernelUnit | str:
    """Return the quantizers of a call's inputs and output, or why no integer kernel computes it."""
    count = len(op.activations)
    if count > 1 and (node.kwargs or len(node.args) > count):
        return "it takes more than its operands"
    operands = node.args[:count]
    if len(operands) < count or not all(isinstance(operand, fx.Node) for operand in operands):
        return "an operand is no tensor, or given by keyword"
    inputs = [quantizer_of(gm, operand) for operand in operands if isinstance(operand, fx.Node)]
    if any(quantizer is None for quantizer in inputs):
        return "an operand is not quantized"
    reason = _reason_of_weight(gm, node, op)
    if reason:
        return reason
    end = _end_of_epilogue(gm, node, arithmetic)
    readers = list(end.users)
    quantizers = [reader for reader in readers if is_quantizer(gm, reader)]
    if quantizers and len(readers) > 1:
        return "its output is read beside the quantizer behind it"
    if not quantizers and not rule.gives_real:
        return "its output is not quantized"
    output = quantizer_of(gm, quantizers[0]) if quantizers else None
    if output is None and _has_float_bias(gm, node):
        return "its bias is float and its output is not quantized"
    held = [quantizer for quantizer in inputs if quantizer is not None]
    reason = _reason_of_grids(held, output, rule, arithmetic)
    if reason:
        return reason
    if output is not None and not _clips_nothing(gm, node, end, output):
        return "its activation clips values that the quantizer behind it keeps"
    return KernelUnit(inputs=tuple(held), output=output)


def _reason_of_weight(gm: fx.GraphModule, node: fx.Node, op: Op) -> str:
    """Return why a call's parameters are not those of an integer kernel; empty if they are."""
    if op.weight is None:
        return ""
    module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
    if not isinstance(module, QuantizationMixin):
        return "its weight is not quantized"
    quantizers: dict[str, Any] = dict(module.param_quantizers.items())
    weight = quantizers.get("weight")
    if (
        not isinstance(weight, FrozenDequantize)
        or weight.block_size
        or weight.qmax - weight.qmin > _WEIGHT_STEPS
    ):
        return "its weight has no 8-bit grid"
    axes = [axis for axis, size in enumerate(weight.scale.shape) if size > 1]
    if axes not in ([], [op.weight.channel_axis]):
        return "its weight has scales along other axes than that of the output channels"
    return ""


def _has_float_bias(gm: fx.GraphModule, node: fx.Node) -> bool:
    module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
    return isinstance(module, QuantizationMixin) and isinstance(module._parameters.get("bias"), torch.Tensor)


def _reason_of_grids(
    inputs: list[QuantizerBase], output: QuantizerBase | None, rule: KernelRule, arithmetic: Arithmetic
) -> str:
    """Return why the grids around a call are not those of an integer kernel; empty if they are."""
    encodings = [quantizer.get_encodings() for quantizer in inputs]
    behind = [] if output is None else [output.get_encodings()]
    if rule.takes_channels and isinstance(inputs[-1], FrozenDequantize):
        weight = encodings.pop()  # a constant may have a grid of its own, with a scale per column
        if not isinstance(weight, AffineEncoding) or weight.block_size or weight.num_steps > _WEIGHT_STEPS:
            return "its weight has no 8-bit grid"
        if weight.scale.numel() not in (1, weight.scale.shape[-1]):
            return "its weight has scales along other axes than that of the columns"
    grids = set()
    whole = {2**bitwidth - 1 for bitwidth in arithmetic.bitwidths}
    for encoding in (*encodings, *behind):
        if not isinstance(encoding, AffineEncoding) or encoding.num_steps not in whole:
            return f"a tensor around it has no grid of {' or '.join(map(str, arithmetic.bitwidths))} bits"
        if encoding.scale.numel() > 1 or encoding.zero_point_shift:
            return "a tensor around it has several scales"
        grids.add((encoding.qmin, encoding.qmax))
    if len(grids) > 1 and not arithmetic.mixes_types:
        return "the tensors around it have integers of different types"
    return ""


def _end_of_epilogue(gm: fx.GraphModule, node: fx.Node, arithmetic: Arithmetic) -> fx.Node:
    """Return the last of the activations that follow a call and may vanish into the quantizer behind."""
    while len(node.users) == 1:
        (reader,) = node.users
        op = op_of(gm, reader)
        rule = None if op is None else arithmetic.rule(op.name)
        if rule is None or not rule.is_epilogue:
            break
        node = reader
    return node


def _clips_nothing(gm: fx.GraphModule, node: fx.Node, end: fx.Node, output: QuantizerBase) -> bool:
    """Whether the activations between a call and its quantizer keep each value of the quantizer's grid.

    By up to float32's eps, as ONNX Runtime decides whether to drop them.
    """
    encoding: Any = output.get_encodings()
    codes = torch.arange(encoding.qmin, encoding.qmax + 1, device=encoding.scale.device)
    grid = values = encoding.dequantize(codes)
    while node is not end:
        (node,) = node.users
        values = _applied(gm, node, values)
    return bool(((values - grid).abs() <= torch.finfo(torch.float32).eps).all())


def _applied(gm: fx.GraphModule, node: fx.Node, values: torch.Tensor) -> torch.Tensor:
    """Return what an activation makes of some values."""
    called: Any = node.target
    if node.op == "call_module":
        called = gm.get_submodule(str(node.target)).forward
    elif node.op == "call_method":
        called = getattr(torch.Tensor, str(node.target))
    result: torch.Tensor = called(values, *node.args[1:], **node.kwargs)
    return result
