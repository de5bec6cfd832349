"""write_quantizers: QuantizeLinear and DequantizeLinear in the place of a graph's sites, with names.

A quantized tensor t has codes t_q, grid values t_qdq and scale t_scale; a stored parameter p has scale
p_scale and values p_dq. Codes are not copied: the file is written from those that the quantized model holds.
"""

import numpy as np
import onnx_ir as ir
import torch

from fxquant.export.constants import Constants
from fxquant.export.operators import DOMAIN, QUANTIZED, SITE
from fxquant.export.sites import Site
from fxquant.export.stored import Stored
from fxquant.graph.names import free_name

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)  # they need scales of their own type


def write_quantizers(model: ir.Model, sites: list[Site], *, gathers_codes: bool = False) -> None:
    """Replace the nodes that stand for sites, in place.

    Args:
        model: What torch.onnx made of a lowered graph.
        sites: Its sites, by number.
        gathers_codes: Whether a lookup in a stored table picks codes, and dequantizes what it picked.
    """
    writer = _Writer(model.graph, sites, gathers_codes=gathers_codes)
    for node in list(model.graph):
        if node.domain == DOMAIN:
            (writer.write_quantized if node.op_type == QUANTIZED else writer.write_stored)(node)
    model.opset_imports.pop(DOMAIN, None)


def remove_quantizers(model: ir.Model, sites: list[Site]) -> None:
    """Replace the nodes that stand for sites by the float tensors they read, in place.

    Quantized tensors keep their names; constants become the real values of their codes.
    """
    writer = _Writer(model.graph, sites)
    for node in list(model.graph):
        if node.domain == DOMAIN:
            (writer.skip_quantized if node.op_type == QUANTIZED else writer.write_real)(node)
    model.opset_imports.pop(DOMAIN, None)


class _Writer:
    """Writes nodes and constants into one graph."""

    def __init__(self, graph: ir.Graph, sites: list[Site], *, gathers_codes: bool = False) -> None:
        self._graph, self._sites = graph, sites
        self._gathers_codes = gathers_codes
        self._constants = Constants(graph)
        self._names: dict[ir.Node, str] = {}
        self._taken: set[str] = set()
        self._scales: dict[tuple[int, ir.DataType], tuple[ir.Value, ir.Value]] = {}
        self._claim_names()

    def write_quantized(self, node: ir.Node) -> None:
        """Write an activation's quantizer."""
        site, name, source = self._site(node), self._name_source(node), node.inputs[0]
        assert source is not None
        is_half = source.dtype in _HALF
        real = (
            self._insert(node, "Cast", [source], f"{name}_float", to=ir.DataType.FLOAT) if is_half else source
        )
        scale, zero_point = self._numbers(site, name)
        codes = self._insert(node, "QuantizeLinear", [real, scale, zero_point], f"{name}_q")
        codes.dtype, codes.shape = site.dtype, source.shape
        grid = self._insert(node, "DequantizeLinear", [codes, scale, zero_point], f"{name}_qdq")
        grid.dtype, grid.shape = ir.DataType.FLOAT, source.shape
        self._replace(node, self._as_half(node, grid, source.dtype, name))

    def write_stored(self, node: ir.Node) -> None:
        """Write a constant's codes, and what makes real values of them."""
        stored, name = Stored.of(self._site(node), _codes(node)), self._names[node]
        if self._gathers_codes:
            self._write_lookups(node, stored, name)
        readings = self._readings(node)
        written: list[ir.Value] = []
        for index, (output, order) in enumerate(readings):
            moved = stored if order is None else stored.permuted(order)
            inner = f"{name}_transposed" if index else name
            source = node.inputs[0], tuple(order or ()), str(moved.codes.dtype)
            inputs, attributes = self._constants.add(moved, inner, source)
            if moved.groups is not None:
                inputs.insert(1, self._group_scales(node, moved, name))
            real = self._insert(
                node,
                "DequantizeLinear",
                inputs,
                free_name(f"{name}_dq", self._taken.__contains__),
                **attributes,
            )
            self._taken.add(str(real.name))
            real.dtype, real.shape = ir.DataType.FLOAT, ir.Shape(moved.codes.shape)
            written.append(self._as_half(node, real, output.outputs[0].dtype, name))
        for (output, _), real in zip(readings, written, strict=True):
            self._replace(output, real)
        self._remove(node)

    def write_real(self, node: ir.Node) -> None:
        """Write a constant as the real values of its codes, transposed where it is read so."""
        codes = torch.from_numpy(_codes(node).astype(np.float32))
        real = self._site(node).encoding.dequantize(codes).numpy()
        for index, (output, order) in enumerate(self._readings(node)):
            moved = real if order is None else np.ascontiguousarray(real.transpose(order))
            dtype = output.outputs[0].dtype
            moved = moved.astype(dtype.numpy()) if dtype in _HALF else moved
            name = f"{self._names[node]}_transposed" if index else self._names[node]
            self._replace(output, self._constants.register(name, ir.tensor(moved)))
        self._remove(node)

    def skip_quantized(self, node: ir.Node) -> None:
        """Let whatever reads a quantized tensor read the tensor itself."""
        self._name_source(node)
        source = node.inputs[0]
        assert source is not None
        self._replace(node, source)

    def _write_lookups(self, node: ir.Node, stored: Stored, name: str) -> None:
        """Let lookups of rows pick codes, and their scales: the table stays in integers."""
        lookups = [
            (reader, reader.inputs[1])
            for reader, index in node.outputs[0].uses()
            if reader.op_type == "Gather" and index == 0 and reader.attributes.get_int("axis", 0) == 0
        ]
        is_by_row = stored.axis == 0 and not stored.block_size and not np.any(stored.zero_point)
        for reader, rows in lookups if is_by_row else []:
            assert rows is not None
            inputs, _ = self._constants.add(stored, name, (node.inputs[0], (), str(stored.codes.dtype)))
            scales = self._constants.register(f"{name}_row_scale", ir.tensor(stored.scale.reshape(-1, 1)))
            picked = self._insert(reader, "Gather", [inputs[0], rows], f"{reader.outputs[0].name}_q")
            real = self._insert(reader, "Cast", [picked], f"{picked.name}_real", to=ir.DataType.FLOAT)
            scale = self._insert(reader, "Gather", [scales, rows], f"{reader.outputs[0].name}_scales")
            product = self._insert(reader, "Mul", [real, scale], f"{reader.outputs[0].name}_dq")
            product.dtype, product.shape = ir.DataType.FLOAT, reader.outputs[0].shape
            product.name = reader.outputs[0].name
            dtype = reader.outputs[0].dtype
            self._replace(reader, self._as_half(reader, product, dtype, f"{product.name}_dq"))

    def _claim_names(self) -> None:
        """Give each site its name; another tensor that has a name wanted here gives it up."""
        wanted: set[str] = set()
        for node in self._graph:
            if node.domain == DOMAIN:
                site = self._site(node)
                name = free_name(site.name, self._taken.__contains__)  # a whole layer may run often
                self._names[node] = name
                suffixes = ("", "_dq", "_scale") if site.is_stored else ("", "_q", "_qdq", "_scale")
                self._taken.add(name)
                wanted |= {f"{name}{suffix}" for suffix in suffixes}
        for node in self._graph:
            for value in node.outputs:
                value.name = f"{value.name}_inner" if value.name in wanted else value.name
        for value in list(self._graph.initializers.values()):
            if value.name in wanted:
                value.name = free_name(f"{value.name}_value", self._graph.initializers.__contains__)

    def _readings(self, node: ir.Node) -> list[tuple[ir.Node, list[int] | None]]:
        """Return the nodes to replace by a constant, with its order of axes: itself, and transpositions."""
        turned = [reader for reader, _ in node.outputs[0].uses() if reader.op_type == "Transpose"]
        rest = len(list(node.outputs[0].uses())) > len(turned) or node.outputs[0].is_graph_output()
        outputs: list[tuple[ir.Node, list[int] | None]] = [(node, None)] if rest else []
        orders = [(reader, list(reader.attributes["perm"].as_ints())) for reader in turned]
        return [*outputs, *orders]

    def _site(self, node: ir.Node) -> Site:
        return self._sites[node.attributes[SITE].as_int()]

    def _name_source(self, node: ir.Node) -> str:
        """Name the tensor that an activation's quantizer reads; inputs of the graph keep theirs."""
        source, name = node.inputs[0], self._names[node]
        assert source is not None
        if not source.is_graph_input() and not source.is_initializer():
            source.name = name
        return name

    def _numbers(self, site: Site, name: str) -> tuple[ir.Value, ir.Value]:
        """Return the scale and zero point of an activation; those of an encoding that tensors share once."""
        key = site.home, site.dtype
        if key not in self._scales:
            stored = Stored.of(site, None)
            scale = self._constants.register(f"{name}_scale", ir.tensor(stored.scale))
            assert stored.zero_point is not None  # int32 activations have no form
            self._scales[key] = scale, self._constants.zero_point(stored.zero_point)
        return self._scales[key]

    def _group_scales(self, node: ir.Node, stored: Stored, name: str) -> ir.Value:
        """Write the scales of blocks as whole multiples of a scale per channel."""
        groups = stored.groups
        assert groups is not None
        inputs = [
            self._constants.register(f"{name}_scale_q", ir.tensor(groups.multiples)),
            self._constants.register(f"{name}_scale_scale", ir.tensor(groups.scale)),
            self._constants.zero_point(np.zeros_like(groups.scale, dtype=np.uint8)),
        ]
        value = self._insert(node, "DequantizeLinear", inputs, f"{name}_scale", axis=groups.axis)
        value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape(groups.multiples.shape)
        return value

    def _as_half(self, node: ir.Node, value: ir.Value, dtype: ir.DataType | None, name: str) -> ir.Value:
        """Return a float32 value in the half type of what it stands for, if that has one."""
        if dtype not in _HALF:
            return value
        half = self._insert(node, "Cast", [value], f"{name}_half", to=dtype)
        half.dtype, half.shape = dtype, value.shape
        return half

    def _insert(
        self, node: ir.Node, op_type: str, inputs: list[ir.Value], output: str, **attributes: int
    ) -> ir.Value:
        made = ir.node(op_type, inputs, attributes=attributes, name=output)
        made.outputs[0].name = output
        self._graph.insert_before(node, made)
        return made.outputs[0]

    def _replace(self, node: ir.Node, value: ir.Value) -> None:
        """Let whatever reads a node's output read another value; an output of the graph keeps its name."""
        output = node.outputs[0]
        if output.is_graph_output() and value.producer() is None:  # an input, or a constant
            value = self._insert(node, "Identity", [value], f"{value.name}_output")
        ir.convenience.replace_all_uses_with(output, value, replace_graph_outputs=True)
        self._remove(node)

    def _remove(self, node: ir.Node) -> None:
        if node.graph is not None:
            self._graph.remove(node, safe=True)


def _codes(node: ir.Node) -> np.ndarray:
    """Return the codes that a node stores."""
    source = node.inputs[0]
    assert source is not None and source.const_value is not None
    return source.const_value.numpy()
