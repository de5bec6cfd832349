"""Edits of the exported ONNX graph: names, transposed weights, global pools, nothing superfluous."""

import numpy as np
import onnx_ir as ir

from fxquant.export.operators import TENSOR_NAME


def name_quantized_tensors(model: ir.Model) -> None:
    """Name tensors after the user's layers: t, its codes t_q, its grid values t_qdq, its scale t_scale.

    Inputs of the graph keep their name. Another tensor that has a name wanted here gives it up.
    """
    sites = [node for node in model.graph if node.op_type == "QuantizeLinear"]
    wanted = {str(node.outputs[0].metadata_props[TENSOR_NAME]) for node in sites}
    wanted |= {f"{name}_{suffix}" for name in wanted for suffix in ("q", "qdq", "scale")}
    for node in model.graph:
        for value in node.outputs:
            value.name = f"{value.name}_inner" if value.name in wanted else value.name
    for node in sites:
        source, codes, scale = node.inputs[0], node.outputs[0], node.inputs[1]
        name = str(codes.metadata_props[TENSOR_NAME])
        assert source is not None and scale is not None
        if not source.is_graph_input():
            source.name = name
        codes.name = f"{name}_q"
        if scale.name not in wanted:  # a shared encoding is named after the first tensor that has it
            scale.name = f"{name}_scale"
        for reader, _ in codes.uses():
            reader.outputs[0].name = f"{name}_qdq"


def name_parameters(model: ir.Model) -> None:
    """Name scales and zero points after the parameter they belong to: conv.weight_scale."""
    zero_points: dict[str, ir.Value] = {}
    for node in model.graph:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        codes, scale, *zero_point = node.inputs
        if codes is not None and scale is not None and codes.is_initializer():
            scale.name = f"{codes.name}_scale"
            node.outputs[0].name = f"{codes.name}_dq"
        if zero_point and zero_point[0] is not None and zero_point[0] not in zero_points.values():
            name = f"zero_point_{len(zero_points)}"
            zero_point[0].name = name
            zero_points[name] = zero_point[0]


def fold_transposed_weights(model: ir.Model) -> None:
    """Transpose stored integers, so that DequantizeLinear -> Transpose becomes DequantizeLinear alone.

    Fused kernels look for a DequantizeLinear right before a MatMul.
    """
    graph = model.graph
    for node in list(graph):
        source = node.inputs[0] if node.op_type == "Transpose" else None
        dequantize = source.producer() if source is not None else None
        if source is None or dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        codes = dequantize.inputs[0]
        if codes is None or codes.const_value is None or len(list(source.uses())) > 1:
            continue
        order = list(node.attributes["perm"].as_ints())
        array = np.ascontiguousarray(codes.const_value.numpy().transpose(order))
        transposed = ir.Value(name=f"{codes.name}_transposed", const_value=ir.tensor(array))
        transposed.dtype, transposed.shape = codes.const_value.dtype, ir.Shape(array.shape)
        graph.register_initializer(transposed)
        dequantize.replace_input_with(0, transposed)
        axis = dequantize.attributes["axis"].as_int()
        dequantize.attributes["axis"] = ir.AttrInt64("axis", order.index(axis))
        source.shape = transposed.shape
        ir.convenience.replace_all_uses_with(node.outputs[0], source)
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
        if tensor is None or not is_zero_point:
            continue
        array = tensor.numpy()
        first = kept.setdefault((str(tensor.dtype), array.shape, array.tobytes()), value)
        if first is not value:
            ir.convenience.replace_all_uses_with(value, first)


def strip(model: ir.Model) -> None:
    """Remove what no runtime reads: traces of the exporter, shapes of inner values, unused constants."""
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
    for name, value in list(graph.initializers.items()):
        value.metadata_props.clear()
        if not value.uses() and not value.is_graph_output():
            del graph.initializers[name]
