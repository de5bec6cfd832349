"""RemoveHalfCasts: let a model in float32 compute in float32 where its forward casts to a half type.

Before::

    bfloat16 = .bfloat16(x)
    mul = mul(bfloat16, slopes)
    float_1 = .float(mul)

After::

    mul = mul(x, slopes)
    float_1 = .float(mul)
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import fx

from fxquant.graph import Report
from fxquant.graph.annotations import RESULT, result_of
from fxquant.graph.edit import bypass
from fxquant.graph.values import op_of
from fxquant.ops import Op
from fxquant.passes.base import Changes, Pass

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class RemoveHalfCasts(Pass):
    """Let a model in float32 compute in float32 where its forward casts to a half type.

    A quantized model has float32 around its integers, and quantizers say where it is rounded. A model that
    holds or is given half types is left as it is.
    """

    name = "remove-half-casts"
    changes = Changes.BOTH
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        casts = [node for node in gm.graph.nodes if _is_cast(op_of(gm, node)) and _halves(node)]
        if not casts:
            return False
        if any(dtype in _HALF for dtype in _given_types(gm)):
            for node in casts:
                self.declined(gm, node, report, "the model holds or is given half types")
            return False
        outputs = gm.graph.find_nodes(op="output")[0].all_input_nodes
        inner = [node for node in casts if node not in outputs]
        for node in casts:
            if node in outputs:
                self.declined(gm, node, report, "the model gives a half type")
        for node in inner:
            self.applied(gm, node, report, "computed in float32")
            source = node.all_input_nodes[0]
            given = result_of(source)
            if given is not None and given.dtype.is_floating_point:
                bypass(gm, node, source)
            else:  # integers and booleans still become floats
                node.op, node.target, node.args, node.kwargs = (
                    "call_method",
                    "to",
                    (source, torch.float32),
                    {},
                )
                node.meta[RESULT] = replace(node.meta[RESULT], dtype=torch.float32)
        return bool(inner)


def _is_cast(op: Op | None) -> bool:
    return op is not None and op.is_cast


def _halves(node: fx.Node) -> bool:
    """Whether a cast gives a half type."""
    given = result_of(node)
    return given is not None and given.dtype in _HALF and bool(node.all_input_nodes)


def _given_types(gm: fx.GraphModule) -> Iterator[torch.dtype]:
    yield from (tensor.dtype for tensor in (*gm.parameters(), *gm.buffers()))
    for node in gm.graph.find_nodes(op="placeholder"):
        result = result_of(node)
        if result is not None:
            yield result.dtype
