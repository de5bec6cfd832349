"""HoistQuantizers: move the quantizers of a module's inputs and outputs into the graph.

Before::

    conv = QuantizedConv2d[conv](x)      # input_quantizers[0] and output_quantizers[0] are set

After::

    x_quantizer = QuantizeDequantize[quantizers.x](x)  symmetric [-128, 127]
    conv = QuantizedConv2d[conv](x_quantizer)
    conv_quantizer = QuantizeDequantize[quantizers.conv](conv)  symmetric [-128, 127]
"""

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fxquant.graph import Report
from fxquant.graph.annotations import TENSOR
from fxquant.graph.edit import add_module, identifier, insert_call
from fxquant.graph.names import free_name, tensor_names
from fxquant.graph.values import op_of, operand_of
from fxquant.nn import QuantizationMixin
from fxquant.ops import Op
from fxquant.passes.base import Changes, Pass
from fxquant.passes.insert_quantizers import ROOM
from fxquant.quantization import QuantizerBase
from fxquant.quantization.affine import Quantize, QuantizeDequantize


@dataclass(frozen=True)
class HoistQuantizers(Pass):
    """Move the quantizers of module inputs and outputs into the graph, each shared as it was."""

    name = "hoist-quantizers"
    changes = Changes.STRUCTURE

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        hoist = _Hoist(gm)
        calls = [(node, module) for node in gm.graph.nodes if (module := _quantized_module(gm, node))]
        for node, module in calls:
            if any(q is not None for q in (*module.input_quantizers, *module.output_quantizers)):
                hoist.inputs(node, module)
                hoist.outputs(node, module)
                self.applied(gm, node, report, "its quantizers are nodes now")
        for _, module in calls:
            module._remove_activation_quantizers()
        return hoist.has_changed


def inputs_of(node: fx.Node, op: Op | None) -> list[Any]:
    """Return what a call of a quantized module passes for each of its input quantizers, in order."""
    if op is not None and not op.is_variadic:
        return [operand_of(node, operand) for operand in op.inputs]
    given: list[Any] = []
    for value in node.args:
        given += value if isinstance(value, list | tuple) else [value]
    return given


class _Hoist:
    """What is hoisted so far: where each quantizer went, and which tensors it reads."""

    def __init__(self, gm: fx.GraphModule) -> None:
        self.gm = gm
        self.names = tensor_names(gm)
        self.paths: dict[int, str] = {}
        self.made: dict[tuple[fx.Node, int], fx.Node] = {}
        self.has_changed = False

    def inputs(self, node: fx.Node, module: QuantizationMixin) -> None:
        """Let a call read its operands through their quantizers."""
        values = inputs_of(node, op_of(self.gm, node))
        for value, quantizer in zip(values, module.input_quantizers, strict=False):
            if isinstance(value, fx.Node) and _is_ready(quantizer):
                node.replace_input_with(value, self._call(quantizer, value))

    def outputs(self, node: fx.Node, module: QuantizationMixin) -> None:
        """Let everything that reads a call's outputs read them through their quantizers."""
        parts = [user for user in node.users if user.target is operator.getitem]
        several = len(module.output_quantizers) > 1
        for index, quantizer in enumerate(module.output_quantizers):
            values = [part for part in parts if part.args[1] == index] if several else [node]
            for value in values if _is_ready(quantizer) else []:
                readers = list(value.users)
                call = self._call(quantizer, value)
                for reader in readers:
                    reader.replace_input_with(value, call)

    def _call(self, quantizer: Any, value: fx.Node) -> fx.Node:
        """Return the call of a quantizer at a tensor: one there already, of an equal encoding, if it can."""
        for (read, _), call in self.made.items():
            if value in (read, call) and _is_same(quantizer, self.gm.get_submodule(str(call.target))):
                return call
        is_first = value in self.names and all(read is not value for read, _ in self.made)
        name = self.names[value] if is_first else self._number(self.names.get(value, value.meta.get(TENSOR)))
        if id(quantizer) not in self.paths:
            path = f"{ROOM}.{identifier(name)}"
            self.paths[id(quantizer)] = add_module(self.gm, path, _in_graph(quantizer))
        inputs = [node for node in self.gm.graph.nodes if node.op == "placeholder"]
        after = inputs[-1] if value.op == "placeholder" else value
        call = insert_call(self.gm, self.paths[id(quantizer)], value, after)
        call.meta[TENSOR] = name
        self.made[value, id(quantizer)] = call
        self.has_changed = True
        return call

    def _number(self, name: object) -> str:
        """Return a new name for a tensor that has one already: it is quantized in several ways."""
        taken = {*self.names.values(), *(str(call.meta[TENSOR]) for call in self.made.values())}
        return free_name(str(name), taken.__contains__)


def _quantized_module(gm: fx.GraphModule, node: fx.Node) -> QuantizationMixin | None:
    module = gm.get_submodule(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, QuantizationMixin) else None


def _is_ready(quantizer: object) -> bool:
    """Whether there is a quantizer, and it has seen data: one at an integer tensor never does."""
    return isinstance(quantizer, QuantizerBase) and quantizer.is_initialized()


def _is_same(one: QuantizerBase, other: object) -> bool:
    """Whether two quantizers put a tensor on the same grid for good."""
    if one is other:
        return True
    if not isinstance(one, QuantizeDequantize) or not isinstance(other, QuantizeDequantize):
        return False
    first, second = one.get_encodings(), other.get_encodings()
    assert first is not None and second is not None
    return (
        (first.qmin, first.qmax, first.symmetry) == (second.qmin, second.qmax, second.symmetry)
        and torch.equal(first.scale, second.scale)
        and torch.equal(first.offset, second.offset)
    )


def _in_graph(quantizer: QuantizerBase) -> torch.nn.Module:
    """Return a quantizer as it stands in a graph: it gives plain real values."""
    made: QuantizerBase = quantizer
    if isinstance(quantizer, Quantize):
        encoding = quantizer.get_encodings()
        assert encoding is not None
        made = QuantizeDequantize.from_encodings(encoding)
    made.returns_encoding = False
    return made
