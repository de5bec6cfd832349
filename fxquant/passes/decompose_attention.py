"""DecomposeAttention: write scaled dot-product attention out as the products that targets run in integers.

Before::

    attention = scaled_dot_product_attention(q, k, v, attn_mask=mask)

After::

    transposed = .transpose(k, -2, -1)
    scores = matmul(q, transposed)
    scaled = mul(scores, 0.125)
    masked = add(scaled, mask)
    weights = softmax(masked, -1)
    attention = matmul(weights, v)
"""

import math
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.graph.annotations import LAYER, MACS, RESULT, Result, layer_of, result_of
from fxquant.graph.values import arguments_by_name
from fxquant.passes.base import Changes, Pass

_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
_LOWEST = torch.finfo(torch.float32).min


@dataclass(frozen=True)
class DecomposeAttention(Pass):
    """Write scaled dot-product attention out as products and a softmax."""

    name = "decompose-attention"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for node in gm.graph.find_nodes(op="call_function", target=F.scaled_dot_product_attention):
            given = arguments_by_name(node, _NAMES)
            query, key = given["query"], given["key"]
            reason = _refusal(given)
            if reason:
                self.declined(gm, node, report, reason)
                continue
            with gm.graph.inserting_before(node):
                output = _Writer(gm.graph, node).attention(query, key, given["value"], given)
            output.meta |= {k: v for k, v in node.meta.items() if k != MACS}
            node.replace_all_uses_with(output)
            gm.graph.erase_node(node)
            self.applied(gm, output, report, "now products and a softmax")
            has_changed = True
        return has_changed


def _refusal(given: dict[str, Any]) -> str:
    """Return why a call cannot be written out; empty if it can."""
    if given.get("dropout_p", 0.0):
        return "it drops weights at random"
    if not isinstance(given["query"], fx.Node) or result_of(given["query"]) is None:
        return "the sizes of its operands are not known: prepare with example_inputs"
    mask = given.get("attn_mask")
    if mask is not None and (not isinstance(mask, fx.Node) or result_of(mask) is None):
        return "the type of its mask is not known: prepare with example_inputs"
    return ""


class _Writer:
    """Writes the calls of one attention, each with its layer and the shape it gives."""

    def __init__(self, graph: fx.Graph, node: fx.Node) -> None:
        self._graph, self._layer = graph, layer_of(node)

    def attention(self, query: fx.Node, key: fx.Node, value: fx.Node, given: dict[str, Any]) -> fx.Node:
        q, k, v = _shape(query), _shape(key), _shape(value)
        dtype = result_of(query).dtype  # type: ignore[union-attr]  # checked by _refusal
        if given.get("enable_gqa") and q[-3] != k[-3]:
            key, value = (self._repeated(node, q[-3] // k[-3]) for node in (key, value))
        batch = torch.broadcast_shapes(q[:-2], _shape(key)[:-2])  # type: ignore[no-untyped-call]  # torch is untyped here
        shape = (*batch, q[-2], k[-2])
        count = math.prod(shape)
        transposed = self._call("transpose", (key, -2, -1), (*_shape(key)[:-2], k[-1], k[-2]), dtype)
        scores = self._call(torch.matmul, (query, transposed), shape, dtype, macs=count * q[-1])
        scale = given.get("scale")
        scale = 1.0 / math.sqrt(q[-1]) if scale is None else scale
        scores = self._call(operator.mul, (scores, scale), shape, dtype)
        scores = self._masked(scores, query, key, given, shape, dtype)
        weights = self._call(F.softmax, (scores, -1), shape, dtype)
        output = (*shape[:-1], v[-1])
        return self._call(torch.matmul, (weights, value), output, dtype, macs=count * v[-1])

    def _masked(
        self, scores: fx.Node, query: fx.Node, key: fx.Node, given: dict[str, Any], shape: Any, dtype: Any
    ) -> fx.Node:
        mask = given.get("attn_mask")
        if given.get("is_causal"):
            sizes = [self._call("size", (node, -2), None, dtype) for node in (query, key)]
            device = self._call(getattr, (query, "device"), None, dtype)
            ones = self._call(
                torch.ones, tuple(sizes), shape[-2:], torch.bool, dtype=torch.bool, device=device
            )
            mask = self._call("tril", (ones,), shape[-2:], torch.bool)
        if mask is None:
            return scores
        result = result_of(mask)
        assert result is not None
        if result.dtype is not torch.bool:
            return self._call(operator.add, (scores, mask), shape, dtype)
        hidden = self._call(torch.logical_not, (mask,), result.shape, torch.bool)
        return self._call("masked_fill", (scores, hidden, _LOWEST), shape, dtype)

    def _repeated(self, node: fx.Node, times: int) -> fx.Node:
        """Repeat each head; grouped queries share keys and values."""
        shape, result = _shape(node), result_of(node)
        assert result is not None
        more = (*shape[:-3], shape[-3] * times, *shape[-2:])
        return self._call(torch.repeat_interleave, (node, times, -3), more, result.dtype)

    def _call(
        self,
        target: Any,
        args: tuple[Any, ...],
        shape: Any,
        result: torch.dtype,
        macs: int = 0,
        **kwargs: Any,
    ) -> fx.Node:
        op = "call_method" if isinstance(target, str) else "call_function"
        node = self._graph.create_node(op, target, args, kwargs)
        node.meta[LAYER] = self._layer
        if shape is not None:
            node.meta[RESULT] = Result(shape=tuple(shape), dtype=result)
        if macs:
            node.meta[MACS] = macs
        return node


def _shape(node: fx.Node) -> tuple[int, ...]:
    result = result_of(node)
    assert result is not None
    return result.shape
