"""Rounding: algorithms that put the weight of each layer on its grid anew, the ranges staying as they are."""

from abc import abstractmethod
from dataclasses import dataclass

import torch

from fxquant.algorithms.context import Context
from fxquant.algorithms.gptq_rows import Grid
from fxquant.algorithms.layers import Layer
from fxquant.algorithms.layerwise import Layerwise, grid_of, share_of
from fxquant.algorithms.moments import Moments


@dataclass(frozen=True, kw_only=True)
class Rounding(Layerwise):
    """Rounds weights anew, each row that this makes better; calibration leaves their ranges from then on.

    Weights that lie on a grid would not lie on the one that calibration would find for them.
    """

    @abstractmethod
    def rounded(self, layer: Layer, target: torch.Tensor, moments: Moments, grid: Grid) -> torch.Tensor:
        """Return rows on a grid for a layer.

        Args:
            layer: The layer.
            target: The rows that they are to stand for, [groups, outputs, length].
            moments: Of the layer's patches.
            grid: The grid of its weight, for each element.
        """

    def mend(self, layer: Layer, rows: torch.Tensor, moments: Moments, context: Context) -> None:
        target = moments.target(rows, self.damping)
        grid = grid_of(layer)
        nearest = grid.snapped(rows)
        before = moments.error(nearest, target)
        new = self.rounded(layer, target, moments, grid)
        after = moments.error(new, target)
        if not bool(after.isfinite().all()):
            context.declined(layer.path, "its data gives no finite weight")
            return
        is_better = after < before
        if not bool(is_better.any()):
            context.declined(layer.path, "rounding to the nearest is as good")
            return
        noise = torch.where(is_better, after, before)
        context.change(layer.weight, layer.of_rows(torch.where(is_better[:, :, None], new, nearest)))
        context.keep_range(layer.quantizer)
        power = float(moments.power.sum())
        context.applied(
            layer.path, "its weight is rounded anew", share_of(before, power), share_of(noise, power)
        )
