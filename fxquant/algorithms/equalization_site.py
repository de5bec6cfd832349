"""EqualizationSite: layers around tensors whose channels are scaled together, and their factors."""

from dataclasses import dataclass

import torch

from fxquant.algorithms.channel_graph import ChannelGraph, Side
from fxquant.algorithms.channel_layers import ChannelLayer
from fxquant.quantization import QuantizerBase

_LEAST = 2.0**-16  # share of a range below which a channel counts as empty


@dataclass(frozen=True, kw_only=True)
class EqualizationSite:
    """Layers that write and layers that read the same channels.

    Attributes:
        sides: What they give and read.
        roots: The variables that have a weight on both sides, sorted.
    """

    sides: list[Side]
    roots: torch.Tensor

    @classmethod
    def of(cls, channels: ChannelGraph, sides: list[Side]) -> "EqualizationSite | str":
        """Return the site of some sides; or why they cannot be scaled."""
        ends = []
        for is_output in (True, False):
            held = [side.channels for side in sides if side.is_output is is_output]
            ends.append(torch.unique(torch.cat(held)) if held else torch.zeros(0, dtype=torch.long))
        both = [root for root in ends[0].tolist() if root not in channels.fixed]
        roots = torch.tensor([root for root in both if root in set(ends[1].tolist())], dtype=torch.long)
        frozen = next((side.layer.name for side in sides if _has_fixed_range(side.layer)), None)
        if not len(roots):
            writers = [side for side in sides if side.is_output]
            return channels.reason(writers[0]) if writers else "no layer of the graph gives what it reads"
        if frozen is not None:
            return f"the range of the weight of '{frozen}' is fixed"
        return cls(sides=sides, roots=roots)

    @property
    def name(self) -> str:
        """The layers, those that write first."""
        writers = [side.layer.name for side in self.sides if side.is_output]
        readers = [side.layer.name for side in self.sides if not side.is_output]
        return ", ".join(dict.fromkeys(writers + readers))

    def update(self, scales: torch.Tensor) -> float:
        """Change the factors; return the logarithm of the largest change."""
        given, read = self._shares(scales)
        is_used = (given > 0) & (read > 0)
        change = (given.clamp(min=_LEAST) / read.clamp(min=_LEAST)).sqrt()
        change = torch.where(is_used, change, 1.0)
        scales[self.roots] *= change
        return float(change.log().abs().max())

    def loss(self, scales: torch.Tensor) -> float:
        """Return 1 minus the mean of p1 p2: 0 where every channel has the whole of both grids."""
        given, read = self._shares(scales)
        is_used = (given > 0) & (read > 0)
        return 1.0 - float((given * read)[is_used].mean()) if bool(is_used.any()) else 0.0

    def _shares(self, scales: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the largest share of a range that each variable takes, of those that write and that read."""
        shares = torch.zeros(2, len(self.roots), dtype=torch.float64)
        for side in self.sides:
            ranges = side.ranges(scales)
            index = torch.searchsorted(self.roots, side.channels).clamp(max=len(self.roots) - 1)
            is_ours = self.roots[index] == side.channels
            share = ranges / ranges.max().clamp(min=torch.finfo(torch.float64).tiny)
            row = 0 if side.is_output else 1
            shares[row].scatter_reduce_(0, index[is_ours], share[is_ours], "amax")
        return shares[0], shares[1]


def _has_fixed_range(layer: ChannelLayer) -> bool:
    """Whether the weight of a layer has a range that must not change."""
    quantizer = dict(getattr(layer.module, "param_quantizers", {})).get("weight")
    return isinstance(quantizer, QuantizerBase) and not quantizer.is_overwrite_allowed()
