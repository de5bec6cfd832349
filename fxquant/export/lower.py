"""lower: the graph that export traces, a quantized model whose quantizers are numbered sites."""

import copy
import operator
from typing import Any

import torch
from torch import fx, nn

from fxquant.export.operators import REPLACED
from fxquant.export.sites import Site, has_form
from fxquant.graph.annotations import TENSOR, layer_of, result_of
from fxquant.graph.assemble import Assemble
from fxquant.graph.capture_notes import inner_graphs
from fxquant.graph.edit import bypass, remove_dead_code, set_module, with_submodules
from fxquant.graph.guards import fixed_inputs, remove_guards
from fxquant.graph.names import module_name
from fxquant.graph.structure import tensors_in
from fxquant.graph.values import attribute, is_quantizer, returns
from fxquant.nn import QuantizationMixin
from fxquant.ops import Returns
from fxquant.quantization import QuantizerBase
from fxquant.quantization.float import FloatEncoding, FloatQuantizeDequantize

_SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)


def lower(gm: fx.GraphModule) -> tuple[fx.GraphModule, list[Site]]:
    """Return a graph to export, and its sites.

    The graph shares tensors with the quantized model, which is not modified. It checks no guards, takes no
    flags, and gives its output tensors in a flat tuple.

    Raises:
        ExportError: If an activation's grid is not that of a type of ONNX.
    """
    sites: list[Site] = []
    lowered = _lowered(gm, sites)
    for node in lowered.graph.find_nodes(op="call_method", target="copy_"):
        if isinstance(node.args[0], fx.Node) and node.args[0].op == "placeholder" and not node.users:
            lowered.graph.erase_node(node)  # a file's inputs are not written into
    for node in lowered.graph.find_nodes(op="placeholder"):
        if not node.users and node.target in fixed_inputs(gm):
            lowered.graph.erase_node(node)
    _flatten_output(lowered)
    lowered.recompile()
    return lowered, sites


def _lowered(gm: fx.GraphModule, sites: list[Site]) -> fx.GraphModule:
    """Return a copy of one graph with export operators, and of the graphs that its opaque layers call."""
    lowered = fx.GraphModule(gm, copy.deepcopy(gm.graph))
    remove_guards(lowered.graph)
    _negate_integers(lowered)
    for node in list(lowered.graph.nodes):
        if node.op == "call_function" and node.target in REPLACED:
            node.target = REPLACED[node.target]
        if node.op != "call_module":
            continue
        module, path = gm.get_submodule(str(node.target)), str(node.target)
        if isinstance(module, QuantizerBase) and is_quantizer(gm, node):
            _lower_quantizer(lowered, node, module, sites)
        elif isinstance(module, QuantizationMixin):
            set_module(lowered, path, _lower_module(module, module_name(gm, node), sites))
        elif inner := inner_graphs(module):
            below = {name: _lowered(graph, sites) for name, graph in inner.items()}
            set_module(lowered, path, with_submodules(module, below))
    lowered.delete_all_unused_submodules()  # tracing pays for every tensor that a graph holds
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


def _lower_quantizer(
    lowered: fx.GraphModule, node: fx.Node, quantizer: QuantizerBase, sites: list[Site]
) -> None:
    """Write a quantizer's call as an operator; one to a type that the file does not quantize to goes."""
    (operand,) = node.all_input_nodes
    if isinstance(quantizer, FloatQuantizeDequantize) and not has_form(quantizer.get_encodings()):
        bypass(lowered, node, operand)
        return
    name, layer = str(node.meta.get(TENSOR, node.name)), layer_of(node)
    node.op = "call_function"
    if quantizer.reads_codes:
        codes = attribute(lowered, operand)
        assert isinstance(codes, torch.Tensor)
        dtype = getattr(quantizer, "dtype", torch.float32)
        node.target, node.args = torch.ops.fxquant.stored.default, (operand, len(sites), dtype)
        sites.append(_site(quantizer, name, layer, codes))
    else:
        node.target, node.args = torch.ops.fxquant.quantized.default, (operand, len(sites))
        sites.append(_site(quantizer, name, layer, None))


def _site(quantizer: QuantizerBase, name: str, layer: str, codes: torch.Tensor | None) -> Site:
    encoding = quantizer.get_encodings()
    assert encoding is not None
    shape = () if codes is None else tuple(codes.shape)
    site = Site(
        name=name,
        layer=layer,
        encoding=encoding,
        home=id(quantizer),
        is_stored=codes is not None,
        shape=shape,
    )
    _ = site.dtype  # an activation's grid that has no type is refused before anything is traced
    return site


class _Stored(nn.Module):
    """A parameter's quantizer as the operator that gives the real values of codes."""

    reads_codes = True

    def __init__(self, site: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.site, self.dtype = site, dtype

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        real: torch.Tensor = torch.ops.fxquant.stored(codes, self.site, self.dtype)
        return real


def _lower_module(module: QuantizationMixin, path: str, sites: list[Site]) -> QuantizationMixin:
    """Return a shallow copy of a quantized module whose parameter quantizers are export operators."""
    lowered = copy.copy(module)
    for kind in ("_modules", "_parameters", "_buffers"):
        setattr(lowered, kind, dict(getattr(module, kind)))
    quantizers = nn.ModuleDict(dict(module.param_quantizers.items()))
    for name, quantizer in module.param_quantizers.items():
        if not isinstance(quantizer, QuantizerBase):  # None: absent
            continue
        value, encoding = getattr(module, name), quantizer.get_encodings()
        can_store = has_form(encoding, tuple(value.shape))
        if quantizer.reads_codes and can_store:
            codes, dtype = value, getattr(quantizer, "dtype", torch.float32)
        elif isinstance(encoding, FloatEncoding) and can_store:
            codes, dtype = encoding.to_codes(value.detach()), value.dtype
        else:
            with torch.no_grad():
                codes, dtype = quantizer(value).as_subclass(torch.Tensor), None
        lowered._parameters.pop(name, None)
        lowered._buffers[name] = codes.detach()
        quantizers[name] = None if dtype is None else _Stored(len(sites), dtype)  # type: ignore[assignment]  # None: absent
        if dtype is not None:
            sites.append(_site(quantizer, f"{path}.{name}", path, codes))
    lowered.param_quantizers = quantizers
    return lowered
