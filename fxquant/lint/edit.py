"""Edits that fixes are made of: a stored constant more or less, another value for all readers."""

import numpy as np
import onnx_ir as ir

from fxquant.lint.graph import Graph


def store(graph: Graph, array: np.ndarray, name: str, dtype: ir.DataType | None = None) -> ir.Value:
    """Return a new constant of the model, of the array's type or of another that it holds the numbers of."""
    tensor = ir.tensor(array, dtype=dtype)
    value = ir.Value(name=_free_name(graph, name), const_value=tensor)
    value.dtype, value.shape = tensor.dtype, ir.Shape(array.shape)
    graph.model.graph.register_initializer(value)
    return value


def drop_unread(graph: Graph, *values: ir.Value | None) -> None:
    """Remove those constants that nothing reads any more."""
    for value in values:
        if value is not None and value.name and not value.uses() and not value.is_graph_output():
            graph.model.graph.initializers.pop(value.name, None)


def replace(old: ir.Value, new: ir.Value) -> None:
    """Let every reader of one value read another; an output of the graph keeps its name."""
    name = old.name
    was_output = old.is_graph_output()
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    if was_output:
        old.name, new.name = f"{name}_before", name


def _free_name(graph: Graph, name: str) -> str:
    taken = set(graph.model.graph.initializers)
    free, count = name, 1
    while free in taken:
        free, count = f"{name}_{count}", count + 1
    return free
