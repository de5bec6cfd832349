"""lower: the graph that export traces, a quantized model whose quantizers are the two export operators.

What these operators cannot say yet is written in float: a parameter in blocks or in a float type as the real
values of its codes, an activation in a float type without a quantizer.
"""

import copy
import operator
from typing import Any

import torch
from torch import fx, nn

from fxquant.errors import ExportError
from fxquant.export.operators import REPLACED
from fxquant.graph.annotations import TENSOR, layer_of, result_of
from fxquant.graph.assemble import Assemble
from fxquant.graph.capture_notes import inner_graphs
from fxquant.graph.edit import bypass, remove_dead_code, set_module, with_submodules
from fxquant.graph.guards import fixed_inputs, remove_guards
from fxquant.graph.names import module_name
from fxquant.graph.structure import tensors_in
from fxquant.graph.values import is_quantizer, returns
from fxquant.nn import QuantizationMixin
from fxquant.ops import Returns
from fxquant.quantization import AffineEncoding
from fxquant.quantization.affine import FrozenDequantize, FrozenQuantizeDequantize
from fxquant.quantization.float import FloatQuantizeDequantize

_FROZEN = (FrozenQuantizeDequantize, FrozenDequantize)
_SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)
_FULL_GRIDS = {
    (0, 255): torch.uint8,
    (-128, 127): torch.int8,
    (0, 65535): torch.uint16,
    (-32768, 32767): torch.int16,
}


def lower(gm: fx.GraphModule) -> fx.GraphModule:
    """Return a graph to export; it shares tensors with the quantized model, which is not modified.

    It checks no guards, takes no flags, and gives its output tensors in a flat tuple.

    Raises:
        ExportError: If an activation's grid is not that of an ONNX integer type.
    """
    lowered = _lowered(gm)
    for node in lowered.graph.find_nodes(op="call_method", target="copy_"):
        if isinstance(node.args[0], fx.Node) and node.args[0].op == "placeholder" and not node.users:
            lowered.graph.erase_node(node)  # a file's inputs are not written into
    for node in lowered.graph.find_nodes(op="placeholder"):
        if not node.users and node.target in fixed_inputs(gm):
            lowered.graph.erase_node(node)
    _flatten_output(lowered)
    lowered.recompile()
    return lowered


def _lowered(gm: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of one graph with export operators, and of the graphs that its opaque layers call."""
    lowered = fx.GraphModule(gm, copy.deepcopy(gm.graph))
    remove_guards(lowered.graph)
    _negate_integers(lowered)
    for index, node in enumerate(list(lowered.graph.nodes)):
        if node.op == "call_function" and node.target in REPLACED:
            node.target = REPLACED[node.target]
        if node.op != "call_module":
            continue
        module, path = gm.get_submodule(str(node.target)), str(node.target)
        if isinstance(module, FloatQuantizeDequantize):
            bypass(lowered, node, node.all_input_nodes[0])
        elif is_quantizer(gm, node):
            tensor = str(node.meta.get(TENSOR, node.name))
            node.target = f"lowered_{index}"
            lowered.add_submodule(node.target, _lower_quantizer(module, tensor, layer_of(node)))
        elif isinstance(module, QuantizationMixin):
            set_module(lowered, path, _lower_module(module, module_name(gm, node)))
        elif inner := inner_graphs(module):
            below = {name: _lowered(graph) for name, graph in inner.items()}
            set_module(lowered, path, with_submodules(module, below))
    lowered.recompile()
    return lowered


def _flatten_output(lowered: fx.GraphModule) -> None:
    """Let a graph give a flat tuple of tensors, whatever object it put them in."""
    output = next(iter(lowered.graph.find_nodes(op="output")))
    flat = [node for node in _tensors(lowered, output.args[0]) if returns(lowered, node) is not Returns.VALUE]
    if len(flat) == 1 and output.args[0] is flat[0]:
        return
    output.args = (tuple(flat),)
    remove_dead_code(lowered, lowered.graph)


def _tensors(gm: fx.GraphModule, value: Any) -> list[fx.Node]:
    if isinstance(value, fx.Node) and value.op == "call_module":
        module = gm.get_submodule(str(value.target))
        return _assembled(module, value) if isinstance(module, Assemble) else [value]
    if isinstance(value, fx.Node):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return [node for part in parts for node in _tensors(gm, part)]


def _assembled(module: Assemble, call: fx.Node) -> list[fx.Node]:
    """Return the tensors of an assembled object in the order in which it holds them, some of them twice."""
    marks = [torch.empty(0) for _ in call.args]
    nodes = {id(mark): node for mark, node in zip(marks, call.args, strict=True)}
    held = [nodes[id(tensor)] for tensor in tensors_in(module(*marks)) if id(tensor) in nodes]
    return [node for node in held if isinstance(node, fx.Node)]


def _negate_integers(lowered: fx.GraphModule) -> None:
    """Write a number minus a tensor as a sum: torch.onnx cannot promote the types of integers there."""
    for node in lowered.graph.find_nodes(op="call_function", target=operator.sub):
        number, tensor = node.args
        if isinstance(number, fx.Node) or not isinstance(tensor, fx.Node):
            continue
        result = result_of(tensor)
        if result is None or result.dtype not in _SIGNED:
            continue
        with lowered.graph.inserting_before(node):
            negative = lowered.graph.call_function(torch.neg, (tensor,))
        node.target, node.args = torch.add, (negative, number)


def needs_opset_21(gm: fx.GraphModule) -> bool:
    """Whether a model holds 16-bit codes, which ONNX knows from opset 21 on."""
    encodings = [module.get_encodings() for module in gm.modules() if isinstance(module, _FROZEN)]
    return any(
        encoding.dtype in (torch.int16, torch.uint16) or encoding.qmax == 65535 for encoding in encodings
    )


class _Lowered(nn.Module):
    """A quantizer as one call of an export operator."""

    scale: torch.Tensor
    zero_point: torch.Tensor

    def __init__(self, encoding: AffineEncoding, dtype: torch.dtype, tensor: str) -> None:
        super().__init__()
        axis = encoding.channel_axis
        shape = (-1,) if axis is not None else ()
        self.register_buffer("scale", encoding.scale.detach().float().reshape(shape))
        self.register_buffer("zero_point", encoding.zero_point.to(dtype).reshape(shape))
        self.axis = 0 if axis is None else axis
        self.tensor = tensor


class _LoweredQuantizeDequantize(_Lowered):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = torch.ops.fxquant.quantize_dequantize(
            input, self.scale, self.zero_point, self.axis, self.tensor
        )
        return output


class _LoweredDequantize(_Lowered):
    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = torch.ops.fxquant.dequantize(
            codes, self.scale, self.zero_point, self.axis, self.tensor
        )
        return output


def _lower_quantizer(quantizer: nn.Module, tensor: str, layer: str) -> nn.Module:
    if isinstance(quantizer, FrozenDequantize):
        encoding = quantizer.get_encodings()
        return _LoweredDequantize(encoding, encoding.dtype, tensor)
    assert isinstance(quantizer, FrozenQuantizeDequantize)
    encoding = quantizer.get_encodings()
    dtype = _FULL_GRIDS.get((encoding.qmin, encoding.qmax))
    if dtype is None:
        raise ExportError(
            f"Tensor '{tensor}' lies on the grid [{encoding.qmin}, {encoding.qmax}], no ONNX integer type.",
            layer=layer or None,
            remedy="Quantize activations to 8 or 16 bits.",
        )
    return _LoweredQuantizeDequantize(encoding, dtype, tensor)


def _lower_module(module: QuantizationMixin, path: str) -> QuantizationMixin:
    """Return a shallow copy of a quantized module whose parameter quantizers are export operators."""
    lowered = copy.copy(module)
    for kind in ("_modules", "_parameters", "_buffers"):
        setattr(lowered, kind, dict(getattr(module, kind)))
    quantizers = nn.ModuleDict(dict(module.param_quantizers.items()))
    for name, quantizer in module.param_quantizers.items():
        if _has_operator(quantizer):
            quantizers[name] = _lower_quantizer(quantizer, f"{path}.{name}", path)
        elif quantizer is not None:
            with torch.no_grad():
                value = quantizer(getattr(module, name)).as_subclass(torch.Tensor)
            lowered._buffers.pop(name, None)
            lowered._parameters[name] = nn.Parameter(value, requires_grad=False)
            quantizers[name] = None  # type: ignore[assignment]  # None: absent
    lowered.param_quantizers = quantizers
    return lowered


def _has_operator(quantizer: object) -> bool:
    """Whether an export operator says what a parameter's quantizer does: integers, a scale per channel."""
    return isinstance(quantizer, FrozenDequantize) and quantizer.block_size is None
