"""fold_quantizers: constants of an ONNX model that are quantized in the file, stored as their codes."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
from onnxscript.optimizer import fold_constants

from fxquant.export.graph_edits import remove_unused_constants
from fxquant.graph.names import free_name

_INTEGERS = (ir.DataType.INT8, ir.DataType.UINT8)
_UNFOLDABLE = ("QuantizeLinear", "RandomNormal", "RandomUniform", "ConstantOfShape")


def fold_quantizers(model: ir.Model) -> None:
    """Replace QuantizeLinear of a constant by its codes, in place; DequantizeLinear stays.

    Before::

        weight float32 [out, in] -> QuantizeLinear(scale, zero_point) -> DequantizeLinear -> MatMul

    After::

        weight int8 [out, in] -> DequantizeLinear(scale, zero_point) -> MatMul

    What constants are computed from is computed first: casts of weights in float16, their joining, amax of
    the weight. The codes are those of the operator as ONNX defines it, saturate(round(x / y_scale) + y_zero)
    in float32, and so a runtime's result does not change by a bit. 4-bit, E4M3 and blocked quantizers stay.
    """
    computed = set(_computed(model))
    fold_constants(model, should_fold=lambda node: node in computed, input_size_limit=0)
    for node in list(model.graph):
        if node.op_type == "QuantizeLinear" and _folds(node):
            _store_codes(model.graph, node)
    remove_unused_constants(model)


def _computed(model: ir.Model) -> Iterator[ir.Node]:
    """Return the nodes that only lead from constants to a quantizer."""
    constant: dict[ir.Node, bool] = {}
    for node in model.graph:  # in the order in which they run
        makers = [
            value.producer() for value in node.inputs if value is not None and value.const_value is None
        ]
        is_pure = node.domain == "" and node.op_type not in _UNFOLDABLE and not _has_graph(node)
        constant[node] = is_pure and all(maker is not None and constant[maker] for maker in makers)
    waiting = [value for node in model.graph if node.op_type == "QuantizeLinear" for value in node.inputs]
    seen: set[ir.Node] = set()
    while waiting:
        value = waiting.pop()
        maker = None if value is None else value.producer()
        if maker is not None and constant[maker] and maker not in seen:
            seen.add(maker)
            waiting.extend(maker.inputs)
            yield maker


def _has_graph(node: ir.Node) -> bool:
    kinds = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
    return any(attribute.type in kinds for attribute in node.attributes.values())


def _folds(node: ir.Node) -> bool:
    """Whether a quantizer is one of a constant, to integers of 8 bits, with one scale or one per channel."""
    numbers = [None if value is None else value.const_value for value in node.inputs]
    if len(numbers) != 3 or None in numbers or "block_size" in node.attributes:
        return False
    source, scale, zero_point = numbers
    return (
        source is not None
        and scale is not None
        and zero_point is not None
        and source.dtype == scale.dtype == ir.DataType.FLOAT
        and zero_point.dtype in _INTEGERS
        and len(scale.shape) < 2
    )


def _store_codes(graph: ir.Graph, node: ir.Node) -> None:
    source, scale, zero_point = (value for value in node.inputs if value is not None)
    codes = _codes(node, *(_numbers(value) for value in (source, scale, zero_point)))
    name = f"{source.name}_codes"
    stored = ir.Value(name=free_name(name, lambda taken: taken in graph.initializers))
    stored.const_value = ir.tensor(codes, name=stored.name)
    stored.dtype, stored.shape = ir.DataType.from_numpy(codes.dtype), ir.Shape(codes.shape)
    graph.register_initializer(stored)
    ir.convenience.replace_all_uses_with(node.outputs[0], stored)
    graph.remove(node, safe=True)


def _codes(node: ir.Node, source: np.ndarray, scale: np.ndarray, zero_point: np.ndarray) -> np.ndarray:
    """Return the codes of a constant, as ONNX defines QuantizeLinear."""
    shape = [1] * source.ndim
    if scale.ndim and source.ndim:
        shape[node.attributes.get_int("axis", 1) if scale.size > 1 else 0] = scale.size
    limits = np.iinfo(zero_point.dtype)
    rounded = np.rint(source / scale.reshape(shape)) + zero_point.reshape(shape).astype(np.float32)
    codes: np.ndarray = np.clip(rounded, limits.min, limits.max).astype(zero_point.dtype)
    return codes


def _numbers(value: ir.Value) -> np.ndarray:
    if value.const_value is None:
        raise ValueError(f"'{value.name}' is no constant.")
    return np.asarray(value.const_value.numpy())
