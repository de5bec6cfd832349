"""fuse_linears: a product with a stored matrix and its int32 bias as one Gemm, which integer kernels fuse.

A bias that is added to a product of more than two dimensions is added in float, to a product of its own. As a
Gemm of the flattened tensor, input, weight, bias and output are those of one integer kernel (QGemm of ONNX
Runtime, FullyConnected of Qualcomm's HTP).

Before::

    x_qdq -> MatMul(w_dq) -> Add(b_dq) -> Relu -> QuantizeLinear -> DequantizeLinear

After, with the same numbers on both sides of a Reshape::

    x_qdq -> Reshape -> QuantizeLinear -> DequantizeLinear -> Gemm(w_dq, b_dq) -> Relu
          -> QuantizeLinear -> DequantizeLinear -> Reshape -> QuantizeLinear -> DequantizeLinear
"""

from collections.abc import Sequence

import onnx_ir as ir

from fxquant.export.constants import Constants

_EPILOGUES = ("Relu", "Clip")


def fuse_linears(model: ir.Model) -> None:
    """Write products with stored matrices as Gemm, in place, where shapes are known but for one dimension."""
    fuser = _Fuser(model.graph)
    for node in list(model.graph):
        if node.op_type == "MatMul":
            fuser.fuse(node)


class _Fuser:
    """Rewrites products of one graph; a tensor that several products read is flattened once."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._constants = Constants(graph)
        self._flat: dict[ir.Value, ir.Value] = {}

    def fuse(self, product: ir.Node) -> None:
        """Fuse one product, if it has the form."""
        source, weight = product.inputs
        sizes = _sizes(product.outputs[0])
        if source is None or weight is None or sizes is None or len(sizes) < 3:
            return
        if _dequantize(source) is None or not _is_stored(weight, rank=2) or source.shape is None:
            return
        add = _only_reader(product.outputs[0], ("Add",))
        bias = None if add is None else next(v for v in add.inputs if v is not product.outputs[0])
        if add is None or bias is None or not _is_stored(bias, rank=1):
            add, bias = None, None
        last = product if add is None else add
        inputs = [self._flattened(source), weight, *([] if bias is None else [bias])]
        name = str(last.outputs[0].name)
        last.outputs[0].name = f"{name}_inner"
        gemm = self._insert(last, "Gemm", inputs, name)
        made = gemm.producer()
        assert made is not None
        made.metadata_props.update(product.metadata_props)  # nodes are named by them
        ends = _end_of_epilogue(last.outputs[0])
        ir.convenience.replace_all_uses_with(last.outputs[0], gemm, replace_graph_outputs=True)
        if ends is None:
            self._shape_float(gemm, sizes)
        else:
            self._shape_quantized(*ends, sizes)
        for node in (last, product):
            if node.graph is not None:
                self._graph.remove(node, safe=True)

    def _flattened(self, source: ir.Value) -> ir.Value:
        """Return a dequantized tensor as a matrix, dequantized from codes of the same scale."""
        if source not in self._flat:
            dequantize = _dequantize(source)
            assert dequantize is not None and source.shape is not None
            columns = source.shape[-1]
            assert isinstance(columns, int)
            name = f"{str(source.name).removesuffix('_qdq')}_flat"
            matrix = self._reshaped(dequantize, source, [-1, columns], name)
            self._flat[source] = self._requantized(matrix, dequantize, name)
        return self._flat[source]

    def _shape_float(self, gemm: ir.Value, sizes: list[int]) -> None:
        """Give a product that is not quantized its shape again, for all that reads it."""
        made = gemm.producer()
        assert made is not None
        name = str(gemm.name)
        gemm.name = f"{name}_2d"
        readers = list(gemm.uses())
        shaped = self._reshaped(made, gemm, sizes, name)
        self._redirect(gemm, readers, shaped)

    def _shape_quantized(self, quantize: ir.Node, dequantize: ir.Node, sizes: list[int]) -> None:
        """Give a quantized product its shape again, under the names that it had."""
        source, codes, real = quantize.inputs[0], quantize.outputs[0], dequantize.outputs[0]
        assert source is not None
        names = [str(value.name) for value in (source, codes, real)]
        for value in (source, codes, real):
            value.name = f"{value.name}_2d"
        readers = list(real.uses())
        shaped = self._reshaped(dequantize, real, sizes, names[0])
        final = self._requantized(shaped, dequantize, names[0], names[1:])
        self._redirect(real, readers, final)

    def _redirect(self, value: ir.Value, readers: Sequence[tuple[ir.Node, int]], shaped: ir.Value) -> None:
        """Let readers of a value, and an output of the graph, have another one instead."""
        for reader, index in readers:
            reader.replace_input_with(index, shaped)
        for index, output in enumerate(self._graph.outputs):
            if output is value:
                self._graph.outputs[index] = shaped

    def _reshaped(self, after: ir.Node, value: ir.Value, sizes: list[int], name: str) -> ir.Value:
        shape = self._constants.integers(sizes)
        made = self._insert(after, "Reshape", [value, shape], name)
        made.dtype = ir.DataType.FLOAT
        made.shape = ir.Shape([None if size == -1 else size for size in sizes])
        return made

    def _requantized(
        self, value: ir.Value, like: ir.Node, name: str, names: list[str] | None = None
    ) -> ir.Value:
        """Quantize and dequantize a value with the numbers of a DequantizeLinear."""
        first, second = names or (f"{name}_q", f"{name}_qdq")
        producer = value.producer()
        assert producer is not None
        numbers = [v for v in like.inputs[1:] if v is not None]
        codes = self._insert(producer, "QuantizeLinear", [value, *numbers], first)
        made = codes.producer()
        assert made is not None
        real = self._insert(made, "DequantizeLinear", [codes, *numbers], second)
        real.dtype, real.shape = ir.DataType.FLOAT, value.shape
        return real

    def _insert(self, after: ir.Node, op_type: str, inputs: list[ir.Value], output: str) -> ir.Value:
        made = ir.node(op_type, inputs, name=output)
        made.outputs[0].name = output
        self._graph.insert_after(after, made)
        return made.outputs[0]


def _sizes(value: ir.Value) -> list[int] | None:
    """Return the sizes of a tensor, -1 for one that is not known; None where several are not."""
    if value.shape is None:
        return None
    sizes = [size if isinstance(size, int) else -1 for size in value.shape]
    return sizes if sizes.count(-1) <= 1 else None


def _dequantize(value: ir.Value) -> ir.Node | None:
    """Return the DequantizeLinear that gives an activation on one grid; None for anything else."""
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear" or "axis" in node.attributes:
        return None
    codes = node.inputs[0]
    return node if codes is not None and not codes.is_initializer() else None


def _is_stored(value: ir.Value, rank: int) -> bool:
    """Whether a value is a dequantized constant of a rank, with one scale or one per channel."""
    node = value.producer()
    if node is None or node.op_type != "DequantizeLinear" or "block_size" in node.attributes:
        return False
    codes = node.inputs[0]
    return (
        codes is not None and codes.is_initializer() and codes.shape is not None and len(codes.shape) == rank
    )


def _only_reader(value: ir.Value, op_types: tuple[str, ...]) -> ir.Node | None:
    readers = [node for node, _ in value.uses()]
    is_only = len(readers) == 1 and not value.is_graph_output() and readers[0].op_type in op_types
    return readers[0] if is_only else None


def _end_of_epilogue(value: ir.Value) -> tuple[ir.Node, ir.Node] | None:
    """Return the two nodes that quantize a value, maybe behind an activation; None if nothing does."""
    while (activation := _only_reader(value, _EPILOGUES)) is not None:
        value = activation.outputs[0]
    quantize = _only_reader(value, ("QuantizeLinear",))
    dequantize = None if quantize is None else _only_reader(quantize.outputs[0], ("DequantizeLinear",))
    return None if quantize is None or dequantize is None else (quantize, dequantize)
