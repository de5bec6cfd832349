"""What TensorRT fuses, as questions about nodes: weighted ops, epilogues, gates, attention."""

import onnx_ir as ir

from fxquant.lint.graph import (
    COPIES,
    WEIGHTED,
    Graph,
    behind,
    dequantize_before,
    dims,
    is_quantize,
    readers,
)

ACTIVATIONS = frozenset(
    {
        "Relu",
        "Clip",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "Selu",
        "HardSwish",
        "HardSigmoid",
        "Tanh",
        "Softplus",
        "Mish",
        "Swish",
    }
)
"""Functions of one tensor that fuse into the op before them; Sigmoid counts as part of SiLU."""
NORMALIZATION = "BatchNormalization"
_UNARY_EPILOGUE = ACTIVATIONS | {NORMALIZATION, "Sigmoid"}
EPILOGUE = _UNARY_EPILOGUE | {"Add", "Mul"}
"""What can run in the kernel of the weighted op before it."""
INT8_KERNELS = WEIGHTED | {"Add", "Mul", "AveragePool", "GlobalAveragePool"}
"""What TensorRT runs on integers when it reads them."""
_SCALABLE = frozenset({"Mul", "Div", "Add", "Sub", "Where", "Cast"})
CONVOLUTIONS = ("Conv", "ConvTranspose")


def is_quantized(graph: Graph, value: ir.Value | None) -> bool:
    """Whether a value is read from a grid: dequantized, through copies at most."""
    return dequantize_before(value) is not None


def is_stored(graph: Graph, value: ir.Value | None) -> bool:
    """Whether a value is a constant, behind Q/DQ and copies or not."""
    value = behind(value, COPIES | {"DequantizeLinear", "QuantizeLinear", "Cast"})
    return graph.is_constant(value)


def runs_int8(graph: Graph, node: ir.Node) -> bool:
    """Whether an op that has an integer kernel reads its operands from a grid; a bias does not count."""
    operands = node.inputs[:2] if node.op_type in WEIGHTED else node.inputs
    return node.op_type in INT8_KERNELS and all(is_quantized(graph, value) for value in operands)


def conv_behind(value: ir.Value | None, graph: Graph) -> ir.Node | None:
    """Return the convolution that gives a value through an epilogue that only this reads; None without one.

    SiLU, x * sigmoid(x), counts as an epilogue.
    """
    while value is not None and not value.is_graph_output():
        node = value.producer()
        silu = None if node is None else silu_input(node)
        if silu is not None:
            node = silu.producer()
            return node if node is not None and node.op_type in CONVOLUTIONS else None
        if node is None or len(readers(value)) > 1:
            return None
        if node.op_type in CONVOLUTIONS:
            return node
        value = node.inputs[0] if node.op_type in _UNARY_EPILOGUE else None
    return None


def silu_input(mul: ir.Node) -> ir.Value | None:
    """Return x of a node that computes x * sigmoid(x), or x * hardsigmoid(x); None for another."""
    if mul.op_type != "Mul":
        return None
    first, second = mul.inputs[:2]
    for own, other in ((first, second), (second, first)):
        gate = other.producer() if other is not None else None
        if gate is not None and gate.op_type in ("Sigmoid", "HardSigmoid") and gate.inputs[0] is own:
            return own
    return None


def softmax_between(first: ir.Node) -> tuple[ir.Node, list[ir.Node]] | None:
    """Return the Softmax that a product's result goes to, and the nodes on the way; None without one."""
    way: list[ir.Node] = []
    value = first.outputs[0]
    while len(found := readers(value)) == 1:
        node = found[0]
        if node.op_type == "Softmax":
            return node, way
        is_pair = is_quantize(node) or node.op_type == "DequantizeLinear"
        if node.op_type not in _SCALABLE | {"Reshape", "Identity"} and not is_pair:
            return None
        way.append(node)
        value = node.outputs[0]
    return None


def product_after(softmax: ir.Node) -> ir.Node | None:
    """Return the MatMul that reads a Softmax, through Q/DQ, copies and Casts."""
    value = softmax.outputs[0]
    while len(found := readers(value)) == 1:
        node = found[0]
        if node.op_type == "MatMul":
            return node
        if node.op_type not in COPIES | {"QuantizeLinear", "DequantizeLinear", "Cast"}:
            return None
        value = node.outputs[0]
    return None


def attentions(graph: Graph) -> list[tuple[ir.Node, list[ir.Node], ir.Node, ir.Node]]:
    """Return each attention: product of q and k, nodes up to the Softmax, Softmax, product with v."""
    found = []
    for first in graph.of("MatMul"):
        between = softmax_between(first)
        if between is None:
            continue
        softmax, way = between
        second = product_after(softmax)
        is_layer = any(is_stored(graph, value) for node in (first, second or first) for value in node.inputs)
        if second is not None and not is_layer:
            found.append((first, way, softmax, second))
    return found


def matrix_sizes(node: ir.Node) -> tuple[int | None, int | None, int | None]:
    """Return M, K and N of a MatMul or Gemm; None for what varies or is not known."""
    left, right = dims(node.inputs[0]), dims(node.inputs[1])
    if not left or not right:
        return None, None, None
    swap_left = node.op_type == "Gemm" and "transA" in node.attributes and node.attributes["transA"].as_int()
    swap_right = node.op_type == "Gemm" and "transB" in node.attributes and node.attributes["transB"].as_int()
    rows = (left[-1] if swap_left else left[-2]) if len(left) > 1 else 1
    depth = left[-2] if swap_left and len(left) > 1 else left[-1]
    columns = (right[-2] if swap_right else right[-1]) if len(right) > 1 else 1
    return rows, depth, columns
