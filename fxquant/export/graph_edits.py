"""Edits of the exported ONNX graph: transposed weights, global pools, nothing superfluous."""

import numpy as np
import onnx_ir as ir


def fold_transposed_weights(model: ir.Model) -> None:
    """Transpose stored integers, so that DequantizeLinear -> Transpose becomes DequantizeLinear alone.

    Fused kernels look for a DequantizeLinear right before a MatMul.
    """
    graph = model.graph
    moved: dict[tuple[ir.Value, tuple[int, ...]], ir.Value] = {}  # equal codes are stored once
    for node in list(graph):
        source = node.inputs[0] if node.op_type == "Transpose" else None
        dequantize = source.producer() if source is not None else None
        if source is None or dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        codes = dequantize.inputs[0]
        if codes is None or codes.const_value is None or len(list(source.uses())) > 1:
            continue
        order = list(node.attributes["perm"].as_ints())
        key = codes, tuple(order)
        if key not in moved:
            array = np.ascontiguousarray(codes.const_value.numpy().transpose(order))
            moved[key] = ir.Value(name=f"{codes.name}_transposed_{len(moved)}", const_value=ir.tensor(array))
            moved[key].dtype, moved[key].shape = codes.const_value.dtype, ir.Shape(array.shape)
            graph.register_initializer(moved[key])
        transposed = moved[key]
        dequantize.replace_input_with(0, transposed)
        axis = dequantize.attributes["axis"].as_int()
        dequantize.attributes["axis"] = ir.AttrInt64("axis", order.index(axis))
        source.shape = transposed.shape
        ir.convenience.replace_all_uses_with(node.outputs[0], source, replace_graph_outputs=True)
        graph.remove(node, safe=True)


def fuse_global_pools(model: ir.Model) -> None:
    """Turn the mean over all spatial axes of an image into GlobalAveragePool, which runs on integers."""
    for node in list(model.graph):
        source = node.inputs[0] if node.op_type == "ReduceMean" else None
        axes = node.inputs[1] if source is not None and len(node.inputs) > 1 else None
        if source is None or source.shape is None or axes is None or axes.const_value is None:
            continue
        rank = len(source.shape)
        reduced = {int(axis) % rank for axis in axes.const_value.numpy()}
        keeps = "keepdims" not in node.attributes or node.attributes["keepdims"].as_int() == 1
        if rank < 3 or reduced != set(range(2, rank)) or not keeps:
            continue
        pool = ir.node("GlobalAveragePool", [source], name=node.name)
        pool.outputs[0].shape, pool.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
        pool.outputs[0].name = node.outputs[0].name
        model.graph.insert_after(node, pool)
        ir.convenience.replace_all_uses_with(node.outputs[0], pool.outputs[0], replace_graph_outputs=True)
        model.graph.remove(node, safe=True)


def share_initializers(model: ir.Model) -> None:
    """Store equal small constants once, such as the zero points of all symmetric tensors."""
    kept: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
    for value in list(model.graph.initializers.values()):
        tensor = value.const_value
        is_zero_point = all(
            reader.op_type in ("QuantizeLinear", "DequantizeLinear") and index == 2
            for reader, index in value.uses()
        )
        if tensor is None or not is_zero_point or value.is_graph_output():
            continue
        array = tensor.numpy()
        first = kept.setdefault((str(tensor.dtype), array.shape, array.tobytes()), value)
        if first is not value:
            ir.convenience.replace_all_uses_with(value, first)


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
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.name = ""
        for value in node.outputs:
            value.metadata_props.clear()
            if not value.is_graph_output():
                value.shape, value.type = None, None
    for value in graph.initializers.values():
        value.metadata_props.clear()
