"""is_left_float: layers that TensorRT runs better in float, by their sizes (P12, P13, P14)."""

import onnx_ir as ir

from fxquant.lint.graph import Graph, dims, int_attribute
from fxquant.lint.tensorrt.patterns import matrix_sizes
from fxquant.quantization import QuantizationSpec
from fxquant.quantization.float import FloatType
from fxquant.targets import LayerSizes
from fxquant.targets.tensorrt_sizes import small_convolution as convolution_limit
from fxquant.targets.tensorrt_sizes import small_product as product_limit

_INT8 = QuantizationSpec()
_FLOAT8 = QuantizationSpec(float_type=FloatType.of_onnx("float8e4m3fn"))


def is_left_float(graph: Graph, node: ir.Node) -> bool:
    """Whether a weighted op is better left float; False where its sizes are not known."""
    if node.op_type in ("MatMul", "Gemm"):
        return small_product(node) != ""
    if node.op_type != "Conv":
        return False
    is_float8 = any(_is_float8(graph, other) for other in graph.of("QuantizeLinear"))
    return (small_float8_convolution if is_float8 else small_convolution)(graph, node) != ""


def small_product(node: ir.Node) -> str:
    """Return why a matrix product is too small for an INT8 kernel; empty if it is not."""
    rows, depth, columns = matrix_sizes(node)
    return _without_id(product_limit(LayerSizes(rows=rows, depth=depth, columns=columns), _INT8))


def small_convolution(graph: Graph, node: ir.Node) -> str:
    """Return why a convolution is too small for an INT8 kernel; empty if it is not."""
    return _without_id(convolution_limit(_convolution(graph, node), _INT8))


def small_float8_convolution(graph: Graph, node: ir.Node) -> str:
    """Return why a convolution has no FP8 kernel; empty if it has one."""
    return _without_id(convolution_limit(_convolution(graph, node), _FLOAT8))


def _without_id(reason: str) -> str:
    return reason.partition(": ")[2]  # a finding bears the id of its rule


def _is_float8(graph: Graph, quantize: ir.Node) -> bool:
    return graph.encoding(quantize).dtype is ir.DataType.FLOAT8E4M3FN


def _convolution(graph: Graph, node: ir.Node) -> LayerSizes:
    weight = dims(node.inputs[1])
    if weight is None or len(weight) < 3 or None in weight:
        return LayerSizes()
    sizes = [size for size in weight if size is not None]
    return LayerSizes(
        depth=sizes[1],
        columns=sizes[0],
        kernel=tuple(sizes[2:]),
        groups=int_attribute(node, "group", 1),
        is_first=node.inputs[0] is not None and _is_first(node),
    )


def _is_first(node: ir.Node) -> bool:
    """Whether a convolution reads an input of the model, through Q/DQ and Casts at most."""
    value = node.inputs[0]
    while value is not None and not value.is_graph_input():
        producer = value.producer()
        if producer is None or producer.op_type not in ("QuantizeLinear", "DequantizeLinear", "Cast"):
            return False
        value = producer.inputs[0]
    return value is not None
