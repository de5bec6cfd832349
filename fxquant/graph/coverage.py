"""Coverage: how much of a model runs quantized, in multiply-accumulates and in parameters."""

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from fxquant.graph.annotations import MACS, Result, result_of
from fxquant.graph.capture_notes import capture_notes, graphs_of
from fxquant.graph.names import node_name
from fxquant.graph.values import activations_of, attribute, is_constant, op_of, operand_of, quantizer_of
from fxquant.nn import QuantizationMixin
from fxquant.ops import CallShapes, Op


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How much of a model runs quantized.

    Attributes:
        macs: Multiply-accumulates of one call of the model on the example inputs; 0 where they are not known.
        quantized_macs: Those whose operands are all read quantized.
        parameters: Number of elements of all parameters.
        quantized_parameters: Those that are stored quantized.
        float_macs: The others' multiply-accumulates, by the name of the node, or of a layer that stays whole.
    """

    macs: int
    quantized_macs: int
    parameters: int
    quantized_parameters: int
    float_macs: Mapping[str, int] = field(default_factory=dict)

    @property
    def share_of_macs(self) -> float | None:
        """Share of the multiply-accumulates that run quantized, 0 to 1; None where there are none known."""
        return self.quantized_macs / self.macs if self.macs else None

    @property
    def share_of_parameters(self) -> float:
        """Share of the parameters that are stored quantized, 0 to 1; 1 for a model without parameters."""
        return self.quantized_parameters / self.parameters if self.parameters else 1.0

    def __str__(self) -> str:
        share = self.share_of_macs
        macs = (
            "multiply-accumulates not known" if share is None else f"{share:.1%} of {_short(self.macs)} MACs"
        )
        return f"{macs}, {self.share_of_parameters:.1%} of {_short(self.parameters)} parameters quantized"


def note_macs(gm: fx.GraphModule) -> None:
    """Note on each node of a captured model how many multiply-accumulates it takes."""
    for graph in graphs_of(gm):
        for node in graph.graph.nodes:
            op = op_of(graph, node)
            output = _output(node)
            if op is not None and op.macs is not None and output is not None:
                node.meta[MACS] = op.macs(_shapes(graph, node, op, output))


def coverage_of(gm: fx.GraphModule) -> Coverage:
    """Return how much of a prepared model runs quantized."""
    notes = capture_notes(gm)
    float_macs = dict(notes.whole_macs) if notes is not None else {}
    macs = sum(float_macs.values())
    stored: dict[int, int] = {}
    for graph in graphs_of(gm):
        held = capture_notes(graph)
        calls = held.calls if held is not None else 1
        for node in graph.graph.nodes:
            count = node.meta.get(MACS, 0) * calls
            macs += count
            if count and not _is_quantized(graph, node):
                float_macs[node_name(graph, node)] = count
            quantizer = quantizer_of(graph, node)
            if quantizer is not None and is_constant(node.all_input_nodes[0]):
                stored |= _sizes([attribute(graph, node.all_input_nodes[0])])
    for module in gm.modules():
        if isinstance(module, QuantizationMixin):
            stored |= _sizes(_quantized_parameters(module))
    parameters = _sizes(gm.parameters())
    return Coverage(
        macs=macs,
        quantized_macs=macs - sum(float_macs.values()),
        parameters=sum(parameters.values()),
        quantized_parameters=sum(size for key, size in stored.items() if key in parameters),
        float_macs=float_macs,
    )


def _sizes(tensors: Any) -> dict[int, int]:
    return {id(tensor): tensor.numel() for tensor in tensors if isinstance(tensor, torch.Tensor)}


def _quantized_parameters(module: QuantizationMixin) -> Iterator[Any]:
    for name, quantizer in module.param_quantizers.items():
        if quantizer is not None:
            yield module._parameters.get(name)


def _is_quantized(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether every tensor that a call reads, its weight too, is read quantized."""
    op = op_of(gm, node)
    values = activations_of(gm, node, op) if op else []
    weight = None if op is None or op.weight is None else operand_of(node, op.weight)
    if isinstance(weight, fx.Node):
        values = [*values, weight]
    elif op is not None and op.weight is not None:
        module = gm.get_submodule(str(node.target))
        if not isinstance(module, QuantizationMixin) or not any(True for _ in _quantized_parameters(module)):
            return False
    return bool(values) and all(quantizer_of(gm, value) is not None for value in values)


def _output(node: fx.Node) -> Result | None:
    """Return the tensor that a call gave; of several, the first."""
    parts = [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]
    return result_of(node) or next(map(result_of, parts), None)


def _shapes(gm: fx.GraphModule, node: fx.Node, op: Op, output: Result) -> CallShapes:
    operands: dict[str, tuple[int, ...]] = {}
    for operand in op.operands:
        value = operand_of(node, operand)
        result = result_of(value) if isinstance(value, fx.Node) else None
        if result is not None:
            operands[operand.name] = result.shape
    if not op.operands:
        read = [(value.name, result_of(value)) for value in node.all_input_nodes]
        operands = {name: result.shape for name, result in read if result is not None}
    held_results = [result_of(value) for value in node.all_input_nodes if is_constant(value)]
    parameters = tuple(result.shape for result in held_results if result is not None)
    if node.op == "call_module":
        module: nn.Module = gm.get_submodule(str(node.target))
        held = {name: tuple(p.shape) for name, p in module._parameters.items() if p is not None}
        operands |= {name: shape for name, shape in held.items() if name not in operands}
        parameters = tuple(held.values())
    equation = next((value for value in node.args if isinstance(value, str)), "")
    return CallShapes(operands=operands, output=output.shape, parameters=parameters, equation=equation)


def _short(count: int) -> str:
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)
