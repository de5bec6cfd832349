"""split_gemms: a Gemm whose weight is in blocks as MatMul and Add, the one form that kernels have blocks for.

ONNX Runtime makes MatMulNBits of a MatMul only; Qualcomm's HTP refuses such a Gemm, or leaves out its bias.

Before::

    y = Gemm(x, w, b, transB=1)

After::

    y = Add(MatMul(x, Transpose(w)), b)
"""

from collections.abc import Sequence

import onnx_ir as ir

from fxquant.export.graph_edits import replace_node
from fxquant.export.operators import DOMAIN, SITE
from fxquant.export.sites import Site


def split_gemms(model: ir.Model, sites: Sequence[Site]) -> None:
    """Write each Gemm with a weight in blocks as MatMul and Add, in place.

    Args:
        model: What torch.onnx made of a lowered graph, its sites not written yet.
        sites: Its sites, by number.
    """
    for node in list(model.graph):
        if node.op_type == "Gemm" and _has_blocks(node, sites) and _is_plain(node):
            _split(model.graph, node)


def _has_blocks(gemm: ir.Node, sites: Sequence[Site]) -> bool:
    producer = None if gemm.inputs[1] is None else gemm.inputs[1].producer()
    if producer is None or producer.domain != DOMAIN:
        return False
    site = sites[producer.attributes[SITE].as_int()]
    return site.is_stored and site.encoding.axes(site.shape)[1] is not None


def _is_plain(gemm: ir.Node) -> bool:
    """Whether it is x times the weight, transposed or not, plus the bias."""
    factors = [gemm.attributes.get_float(name, 1.0) for name in ("alpha", "beta")]
    return all(factor == 1.0 for factor in factors) and gemm.attributes.get_int("transA", 0) == 0


def _split(graph: ir.Graph, gemm: ir.Node) -> None:
    source, weight, *rest = gemm.inputs
    output, bias = gemm.outputs[0], rest[0] if rest else None
    made: list[ir.Node] = []
    if gemm.attributes.get_int("transB", 0) == 1:
        made.append(ir.node("Transpose", [weight], attributes={"perm": [1, 0]}))
        weight = made[-1].outputs[0]
    made.append(ir.node("MatMul", [source, weight], name=str(gemm.name).replace("Gemm", "MatMul")))
    if bias is not None:
        product = made[-1].outputs[0]
        product.name, product.shape, product.type = f"{output.name}_product", output.shape, output.type
        made.append(ir.node("Add", [product, bias]))
    replace_node(graph, gemm, made)
