"""DecomposeGroupNorm: write a group norm as a layer norm of each group, scaled and shifted per channel.

With g groups of l numbers each::

    group_norm = GroupNorm[norm](x)

After::

    groups = reshape(x, [-1, g, l])
    normal = LayerNorm[norm_groups](groups)
    whole = reshape(normal, [-1, channels, height, width])
    norm_weight = .norm_weight
    mul = mul(whole, norm_weight)
    norm_bias = .norm_bias
    group_norm = add(mul, norm_bias)
"""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from fxquant.graph import Report
from fxquant.graph.annotations import LAYER, RESULT, Result, layer_of, result_of
from fxquant.graph.edit import add_module, add_parameter
from fxquant.graph.values import arguments_by_name, attribute, is_constant, op_of
from fxquant.ops import GROUP_NORM
from fxquant.passes.base import Changes, Pass

# parameters that change nothing are left out: the HTP gives wrong numbers for them in front of a relu
_FACTORS: tuple[tuple[str, Callable[..., Any], float], ...] = (
    ("weight", operator.mul, 1.0),
    ("bias", operator.add, 0.0),
)
_NAMES = ("input", "num_groups", "weight", "bias", "eps")


@dataclass(frozen=True)
class DecomposeGroupNorm(Pass):
    """Write group norms as layer norms of each group, scaled and shifted per channel."""

    name = "decompose-group-norm"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for node in list(gm.graph.nodes):
            if op_of(gm, node) is not GROUP_NORM:
                continue
            given, result = _given(gm, node), result_of(node)
            source = given["input"]
            if result is None or not isinstance(source, fx.Node):
                self.declined(gm, node, report, "its sizes are not known: prepare with example_inputs")
                continue
            factors = [given.get(name) for name in ("weight", "bias")]
            if not all(factor is None or isinstance(factor, torch.Tensor) for factor in factors):
                self.declined(gm, node, report, "its parameters are not constants")
                continue
            self._write(gm, node, source, result, given)
            self.applied(gm, node, report, "written as a layer norm of each group")
            gm.graph.erase_node(node)
            has_changed = True
        if has_changed:
            gm.delete_all_unused_submodules()
        return has_changed

    def _write(
        self, gm: fx.GraphModule, node: fx.Node, source: fx.Node, result: Result, given: dict[str, Any]
    ) -> None:
        shape, groups = result.shape, given["num_groups"]
        size = math.prod(shape[1:]) // groups
        norm = nn.LayerNorm(size, eps=given.get("eps", 1e-5), bias=False)  # its weight of ones is exact
        some = next(gm.parameters(), torch.empty(0))
        base = str(node.target) if node.op == "call_module" else node.name
        path = add_module(gm, f"{base}_groups", norm.to(some.device, result.dtype))

        def call(op: str, target: Any, args: tuple[Any, ...], sizes: tuple[int, ...]) -> fx.Node:
            made = gm.graph.create_node(op, target, args)
            made.meta |= {LAYER: layer_of(node), RESULT: Result(shape=sizes, dtype=result.dtype)}
            return made

        with gm.graph.inserting_before(node):
            apart = (shape[0], groups, size)
            value = call("call_function", torch.reshape, (source, (-1, *apart[1:])), apart)
            value = call("call_module", path, (value,), apart)
            value = call("call_function", torch.reshape, (value, (-1, *shape[1:])), shape)
            for name, combine, neutral in _FACTORS:
                held = given.get(name)
                if held is not None and not bool((held == neutral).all()):
                    constant = _constant(gm, node, f"{base}_{name}", held, len(shape) - 2)
                    value = call("call_function", combine, (value, constant), shape)
        node.replace_all_uses_with(value)


def _given(gm: fx.GraphModule, node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a group norm by name, its parameters as tensors."""
    if node.op == "call_module":
        layer = gm.get_submodule(str(node.target))
        if isinstance(layer, nn.GroupNorm):
            held = {name: getattr(layer, name) for name in _NAMES[1:]}
            return {"input": node.all_input_nodes[0], **held}
    given = arguments_by_name(node, _NAMES)
    for name in ("weight", "bias"):
        value = given.get(name)
        if isinstance(value, fx.Node) and is_constant(value):
            given[name] = attribute(gm, value)
    return given


def _constant(gm: fx.GraphModule, node: fx.Node, path: str, held: torch.Tensor, spatial: int) -> fx.Node:
    """Add a parameter of one number per channel that broadcasts along spatial dimensions."""
    shaped = held.detach().reshape(-1, *[1] * spatial)
    parameter = nn.Parameter(shaped, requires_grad=held.requires_grad)
    constant = gm.graph.get_attr(add_parameter(gm, path, parameter))
    constant.meta[LAYER] = layer_of(node)
    return constant
