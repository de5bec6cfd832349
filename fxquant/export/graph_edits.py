"""Edits of the exported ONNX graph: global pools, views, nothing superfluous."""

import numpy as np
import onnx_ir as ir


def fuse_global_pools(model: ir.Model) -> None:
    """Turn the mean over all spatial axes of an image into GlobalAveragePool, which runs on integers."""
    for node in list(model.graph):
        source = node.inputs[0] if node.op_type == "ReduceMean" else None
        axes = node.inputs[1] if source is not None and len(node.inputs) > 1 else None
        if source is None or source.shape is None or axes is None or axes.const_value is None:
            continue
        rank = len(source.shape)
        reduced = {int(axis) % rank for axis in axes.const_value.numpy()}
        keeps = node.attributes.get_int("keepdims", 1) == 1
        if rank < 3 or reduced != set(range(2, rank)) or not keeps:
            continue
        replace_node(model.graph, node, [ir.node("GlobalAveragePool", [source], name=node.name)])


def write_trivial_softmax(model: ir.Model) -> None:
    """Write a softmax along a dimension of size 1 as exp(x - x), which is 1.

    ONNX Runtime's fused kernel overflows there and gives 0.
    """
    for node in list(model.graph):
        source = node.inputs[0] if node.op_type == "Softmax" else None
        if source is None or source.shape is None:
            continue
        if source.shape[node.attributes.get_int("axis", -1)] != 1:
            continue
        zero = ir.node("Sub", [source, source], name=f"{node.name}/Sub")
        one = ir.node("Exp", [zero.outputs[0]], name=f"{node.name}/Exp")
        zero.outputs[0].name = f"{node.outputs[0].name}_zero"
        zero.outputs[0].shape, zero.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
        replace_node(model.graph, node, [zero, one])


def reshape_whole_gathers(model: ir.Model) -> None:
    """Turn picking every number of a tensor, in order, into Reshape: accelerators lack GatherND.

    Masks of attention are picked so, by the numbers of rows and columns.
    """
    for node in list(model.graph):
        if node.op_type != "GatherND" or any(name != "batch_dims" for name in node.attributes):
            continue
        source, index = node.inputs
        if source is None or index is None or index.const_value is None or source.shape is None:
            continue
        sizes = [size for size in source.shape if isinstance(size, int)]
        picked = index.const_value.numpy()
        has_batch = node.attributes.get_int("batch_dims", 0) != 0
        if has_batch or len(sizes) != len(source.shape) or picked.shape[-1] != len(sizes):
            continue
        numbers = np.ravel_multi_index(tuple(np.moveaxis(picked, -1, 0)), sizes, mode="wrap")
        if not np.array_equal(numbers.reshape(-1), np.arange(np.prod(sizes))):
            continue
        shape = ir.Value(name=f"{node.outputs[0].name}_shape", const_value=ir.tensor(list(numbers.shape)))
        model.graph.register_initializer(shape)
        replace_node(model.graph, node, [ir.node("Reshape", [source, shape], name=node.name)])


def replace_node(graph: ir.Graph, node: ir.Node, made: list[ir.Node]) -> None:
    """Put nodes in the place of one; what the last gives takes over its name, type, shape and readers."""
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], made, [node.outputs[0]], [made[-1].outputs[0]]
    )


def remove_unused_constants(model: ir.Model) -> None:
    """Remove constants that no node reads."""
    for name, value in list(model.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[name]


def strip(model: ir.Model) -> None:
    """Remove what no runtime reads: traces of the exporter and shapes of inner values."""
    graph = model.graph
    graph.metadata_props.clear()
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.shape, value.type = None, None
    for value in graph.initializers.values():
        value.metadata_props.clear()
        value.shape, value.type = None, None  # the constant tells them
