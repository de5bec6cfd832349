"""lower_floats: the float remainder of an ONNX model in float16, scales of quantizers included.

What may be float16 is read from the schemas of ONNX: a tensor is cast only where an operator takes float32
alone, such as the scales of Resize, and at the inputs and outputs of the model.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from fxquant.errors import ExportError

LOWEST_OPSET = 19  # the first whose quantizers take scales in float16

_FLOAT, _HALF = ir.DataType.FLOAT, ir.DataType.FLOAT16
_ALLOWED = "tensor(float16)"
_LARGEST = float(np.finfo(np.float16).max)
_MASK = 1e30  # masks are filled with the lowest number of a type: they become that of float16
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def lower_floats(model: ir.Model, *, keeps_io: bool) -> None:
    """Write what is float32 in a model as float16, in place.

    Args:
        model: A model with types on its inputs and outputs.
        keeps_io: Whether inputs and outputs of the model stay float32.

    Raises:
        ExportError: If a constant does not fit float16, or a node has graphs of its own.
    """
    graph, opset = model.graph, model.opset_imports[""]
    for value in graph.inputs:
        if value.dtype is _FLOAT:
            _lower_input(graph, value, keeps_io=keeps_io)
    for node in list(graph):
        if any(attribute.type is ir.AttributeType.GRAPH for attribute in node.attributes.values()):
            raise ExportError(f"Node '{node.name}' holds a graph, which has no float16 form here.")
        _lower_attributes(node)
        if node.op_type == "Cast":
            node.outputs[0].dtype = ir.DataType(node.attributes["to"].as_int())
        else:
            _lower_node(graph, node, opset)
    for index, value in enumerate(graph.outputs):
        if value.dtype is _HALF and keeps_io:
            graph.outputs[index] = _raised_output(graph, value)


def _lower_input(graph: ir.Graph, value: ir.Value, *, keeps_io: bool) -> None:
    if not keeps_io:
        value.dtype = _HALF
        return
    readers = list(value.uses())
    if readers:
        half = _cast(value, _HALF, f"{value.name}_half")
        graph.insert_before(graph[0], half)
        for node, index in readers:
            node.replace_input_with(index, half.outputs[0])


def _lower_node(graph: ir.Graph, node: ir.Node, opset: int) -> None:
    """Give a node's float operands one type, float16 where its schema allows it; note what it gives."""
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    allowed = {
        constraint.type_param_str: _ALLOWED in constraint.allowed_type_strs
        for constraint in schema.type_constraints
    }
    given: dict[str, ir.DataType] = {}
    for index, value in enumerate(node.inputs):
        kind = _kind(schema.inputs, index)
        if value is None or value.dtype not in (_FLOAT, _HALF):
            continue
        wanted = _HALF if allowed.get(kind, False) else _FLOAT
        given[kind] = wanted
        if value.dtype is not wanted:
            is_scale = node.op_type in _QUANTIZERS and index == 1
            node.replace_input_with(index, _as(graph, node, value, wanted, is_scale=is_scale))
    for index, output in enumerate(node.outputs):
        kind = _kind(schema.outputs, index)
        if kind in given:
            output.dtype = given[kind]
        elif output.dtype is _FLOAT and allowed.get(kind, False) and _makes_half(node):
            output.dtype = _HALF


def _kind(parameters: Sequence[onnx.defs.OpSchema.FormalParameter], index: int) -> str:
    return str(parameters[min(index, len(parameters) - 1)].type_str)  # the last one may stand for several


def _as(graph: ir.Graph, node: ir.Node, value: ir.Value, dtype: ir.DataType, *, is_scale: bool) -> ir.Value:
    """Return a value in another float type: a constant in that type, or a Cast before a node."""
    if not value.is_initializer() or dtype is _FLOAT:
        cast = _cast(value, dtype, f"{value.name}_{'half' if dtype is _HALF else 'float'}_{len(graph)}")
        graph.insert_before(node, cast)
        return cast.outputs[0]
    array = _halved(value, is_scale=is_scale)
    name = f"{value.name}"
    readers = [reader for reader, _ in value.uses()]
    if len(readers) > 1:
        name = next(name for name in _names(f"{value.name}_half") if name not in graph.initializers)
    else:
        del graph.initializers[name]
    half = ir.Value(name=name, const_value=ir.tensor(array), type=ir.TensorType(_HALF))
    half.shape = ir.Shape(array.shape)
    graph.register_initializer(half)
    return half


def _names(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{number}" for number in range(1, 1 << 20))


def _halved(value: ir.Value, *, is_scale: bool) -> np.ndarray:
    """Return a constant in float16; a scale stays above zero."""
    assert value.const_value is not None
    array = value.const_value.numpy()
    is_large = np.abs(array) > _LARGEST
    is_mask = np.abs(array) >= _MASK
    if np.any(is_large & ~is_mask):
        raise ExportError(
            f"Constant '{value.name}' holds {np.abs(array).max():.3g}, and float16 ends at {_LARGEST:.0f}.",
            remedy="Export in float32.",
        )
    half = np.clip(array, -_LARGEST, _LARGEST) if np.any(is_mask & np.isfinite(array)) else array
    return np.maximum(half, _SMALLEST).astype(np.float16) if is_scale else half.astype(np.float16)


def _lower_attributes(node: ir.Node) -> None:
    """Let a node that makes floats of no floats make float16."""
    for name, attribute in list(node.attributes.items()):
        is_type = name in ("to", "dtype", "output_dtype") and attribute.type is ir.AttributeType.INT
        if is_type and attribute.as_int() == _FLOAT:
            node.attributes[name] = ir.AttrInt64(name, int(_HALF))
        elif attribute.type is ir.AttributeType.TENSOR and attribute.as_tensor().dtype is _FLOAT:
            made = ir.Value(name=f"{node.name}.{name}", const_value=attribute.as_tensor())
            node.attributes[name] = ir.AttrTensor(name, ir.tensor(_halved(made, is_scale=False)))


def _makes_half(node: ir.Node) -> bool:
    return any(
        (a.type is ir.AttributeType.TENSOR and a.as_tensor().dtype is _HALF)
        or (a.type is ir.AttributeType.INT and a.name in ("dtype", "output_dtype") and a.as_int() == _HALF)
        for a in node.attributes.values()
    )


def _cast(value: ir.Value, dtype: ir.DataType, name: str) -> ir.Node:
    node = ir.node("Cast", [value], attributes={"to": int(dtype)}, name=name)
    node.outputs[0].name, node.outputs[0].dtype, node.outputs[0].shape = name, dtype, value.shape
    return node


def _raised_output(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """Return an output of a model in float32, under the name that it had."""
    name = str(value.name)
    value.name = f"{name}_half"
    cast = _cast(value, _FLOAT, name)
    graph.append(cast)
    return cast.outputs[0]
