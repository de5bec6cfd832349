"""Names in the exported ONNX graph: those of the user's layers, shared with the encodings.

A quantized tensor t has codes t_q, grid values t_qdq and scale t_scale; a stored parameter p has scale
p_scale and values p_dq.
"""

import onnx_ir as ir

from fxquant.export.operators import TENSOR_NAME
from fxquant.graph.names import free_name

_LARGE = 2**16  # bytes; larger constants stay shared, such as tied embeddings


def name_inputs(model: ir.Model, names: list[str]) -> None:
    """Give the graph's inputs the names that the model's forward has for them, where each is one tensor."""
    inputs = list(model.graph.inputs)
    if len(inputs) != len(names):
        return
    for node in model.graph:
        for value in node.outputs:
            value.name = f"{value.name}_output" if value.name in names else value.name
    for value, name in zip(inputs, names, strict=True):
        value.name = name


def name_tensors(model: ir.Model) -> None:
    """Name quantized tensors and what their quantizers give.

    Inputs of the graph keep their name. Another tensor that has a name wanted here gives it up.
    """
    taken: set[str] = set()
    sites: dict[ir.Node, str] = {}
    for node in model.graph:
        if node.op_type == "QuantizeLinear" and (name := _name(node)):
            sites[node] = free_name(name, taken.__contains__)  # a layer that stays whole may run often
            taken.add(sites[node])
    wanted = {f"{name}{suffix}" for name in sites.values() for suffix in ("", "_q", "_qdq")}
    for node in model.graph:
        for value in node.outputs:
            value.name = f"{value.name}_inner" if value.name in wanted else value.name
    for node, name in sites.items():
        source, codes = node.inputs[0], node.outputs[0]
        assert source is not None
        if not source.is_graph_input():
            source.name = name
        codes.name = f"{name}_q"
        for reader, _ in codes.uses():
            reader.outputs[0].name = f"{name}_qdq"


def name_constants(model: ir.Model) -> None:
    """Name stored integers, scales and zero points.

    The exporter stores equal constants once, under the first one's name; each parameter gets its own again,
    unless it is large. An encoding that several tensors share is named after the first.
    """
    names: dict[ir.Value, str] = {}
    zero_points: list[ir.Value] = []
    taken: set[str] = set()
    for node in model.graph:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        name, scale = _name(node), node.inputs[1]
        if name and node.op_type == "DequantizeLinear":
            names[_own(model, node, 0, name)] = name
            names[_own(model, node, 1, name)] = f"{name}_scale"
            node.outputs[0].name = free_name(f"{name}_dq", taken.__contains__)
            taken.add(node.outputs[0].name)
        elif name and scale is not None:
            names.setdefault(scale, f"{name}_scale")
        zero_point = node.inputs[2] if len(node.inputs) > 2 else None
        if zero_point is not None and zero_point not in zero_points:
            names[zero_point] = f"zero_point_{len(zero_points)}"
            zero_points.append(zero_point)
    _rename(list(model.graph.initializers.values()), names)


def _name(node: ir.Node) -> str:
    """Return the name that a quantizer's first node carries; empty for any other node."""
    return str(node.outputs[0].metadata_props.get(TENSOR_NAME, ""))


def _own(model: ir.Model, node: ir.Node, index: int, name: str) -> ir.Value:
    """Return the constant that a node reads, after making a copy of one that another node reads too."""
    value = node.inputs[index]
    assert value is not None and value.const_value is not None
    if len(value.uses()) == 1 or value.const_value.nbytes > _LARGE:
        return value
    copied = ir.Value(name=f"{name}_of_{node.outputs[0].name}", const_value=value.const_value)
    copied.dtype, copied.shape = value.const_value.dtype, value.shape
    model.graph.register_initializer(copied)
    node.replace_input_with(index, copied)
    return copied


def _rename(constants: list[ir.Value], names: dict[ir.Value, str]) -> None:
    """Rename constants all at once, since a name may pass from one to another; numbers make them unique."""
    wanted = {value: names.get(value, str(value.name)) for value in [*names, *constants]}
    for index, value in enumerate(constants):
        value.name = f"fxquant_constant_{index}"
    taken: set[str] = set()
    for value, name in wanted.items():
        free = free_name(name, taken.__contains__)
        taken.add(free)
        value.name = free
