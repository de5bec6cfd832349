"""SwapNorms: swap batch norms that are called as functions for layers, which can be folded.

Before::

    batch_norm = batch_norm(conv, mean, var, weight, bias, False, 0.1, 1e-05)

After::

    batch_norm = BatchNorm2d[bn.batch_norm](conv)
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.graph.annotations import layer_of, result_of
from fxquant.graph.edit import add_module
from fxquant.graph.values import arguments_by_name, attribute, is_constant
from fxquant.passes.base import Changes, Pass

_NAMES = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
_CLASSES = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@dataclass(frozen=True)
class SwapNorms(Pass):
    """Swap evaluation-mode calls of the batch norm function for layers."""

    name = "swap-norms"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        for node in gm.graph.find_nodes(op="call_function", target=F.batch_norm):
            given = arguments_by_name(node, _NAMES)
            reason = _refusal(given)
            if reason:
                self.declined(gm, node, report, reason)
                continue
            path = add_module(gm, f"{layer_of(node)}.batch_norm".lstrip("."), _layer(gm, given))
            with gm.graph.inserting_before(node):
                call = gm.graph.call_module(path, (given["input"],))
            call.meta.update(node.meta)
            node.replace_all_uses_with(call)
            gm.graph.erase_node(node)
            self.applied(gm, call, report, "now a layer")
            has_changed = True
        return has_changed


def _refusal(given: dict[str, Any]) -> str:
    """Return why a call cannot become a layer; empty if it can."""
    if given.get("training"):
        return "it takes the statistics of the batch"
    held = [given.get(name) for name in ("running_mean", "running_var", "weight", "bias")]
    if not all(isinstance(value, fx.Node) and is_constant(value) for value in held):
        return "its statistics and factors are not all constants"
    source = given["input"]
    result = result_of(source) if isinstance(source, fx.Node) else None
    if result is None or len(result.shape) not in _CLASSES:
        return "the number of dimensions of its input is not known: prepare with example_inputs"
    return ""


def _layer(gm: fx.GraphModule, given: dict[str, Any]) -> nn.Module:
    """Return the layer that computes the same, holding the very tensors of the call."""
    result = result_of(given["input"])
    assert result is not None
    tensors: dict[str, Any] = {name: attribute(gm, given[name]) for name in _NAMES[1:5]}
    layer = _CLASSES[len(result.shape)](len(tensors["running_mean"]), eps=given.get("eps", 1e-5)).eval()
    layer.running_mean, layer.running_var = tensors["running_mean"], tensors["running_var"]
    for name in ("weight", "bias"):
        is_parameter = isinstance(tensors[name], nn.Parameter)
        setattr(layer, name, tensors[name] if is_parameter else nn.Parameter(tensors[name], False))
    return layer.to(torch.device(tensors["running_mean"].device))
