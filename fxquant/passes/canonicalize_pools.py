"""CanonicalizePools: write the mean of an image over all its positions as the pool that it is.

Before::

    mean = .mean(x, [2, 3], keepdim=True)

After::

    mean = adaptive_avg_pool2d(x, 1)
"""

from dataclasses import dataclass

import torch
from torch import fx
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.graph.annotations import result_of
from fxquant.graph.values import arguments_by_name
from fxquant.passes.base import Changes, Pass

_NAMES = ("input", "dim", "keepdim", "dtype")
_POOLS = {3: F.adaptive_avg_pool1d, 4: F.adaptive_avg_pool2d, 5: F.adaptive_avg_pool3d}  # by rank


@dataclass(frozen=True)
class CanonicalizePools(Pass):
    """Write the mean over all positions, which keeps its dimensions, as an average pool."""

    name = "canonicalize-pools"
    changes = Changes.STRUCTURE
    after = ("canonicalize",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        means = [
            *gm.graph.find_nodes(op="call_function", target=torch.mean),
            *gm.graph.find_nodes(op="call_method", target="mean"),
        ]
        has_changed = False
        for node in means:
            given = arguments_by_name(node, _NAMES)
            source, reason = given.get("input", given.get("self")), _refusal(given)
            if reason or not isinstance(source, fx.Node):
                self.declined(gm, node, report, reason or "it reads no tensor")
                continue
            result = result_of(source)
            assert result is not None
            node.op, node.target = "call_function", _POOLS[len(result.shape)]
            node.args, node.kwargs = (source, 1), {}
            self.applied(gm, node, report, "now a pool")
            has_changed = True
        return has_changed


def _refusal(given: dict[str, object]) -> str:
    """Return why a mean is no pool; empty if it is one."""
    if not given.get("keepdim") or given.get("dtype") is not None:
        return "it drops the dimensions, or changes the type"
    source, dim = given.get("input", given.get("self")), given.get("dim")
    result = result_of(source) if isinstance(source, fx.Node) else None
    if result is None:
        return "the rank of what it reads is not known: prepare with example_inputs"
    rank = len(result.shape)
    dims = [dim] if isinstance(dim, int) else list(dim) if isinstance(dim, list | tuple) else []
    reduced = {index % rank for index in dims if isinstance(index, int)}
    is_image = rank in _POOLS and (rank > 3)
    return "" if is_image and reduced == set(range(2, rank)) else "it is not over all positions of an image"
