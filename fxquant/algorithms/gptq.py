"""Gptq: round every weight so that later columns of a row make up for the error of earlier ones."""

from dataclasses import dataclass

import torch

from fxquant.algorithms.gptq_rows import Grid, gptq_rows, refined_rows
from fxquant.algorithms.layers import Layer
from fxquant.algorithms.moments import Moments
from fxquant.algorithms.rounding import Rounding


@dataclass(frozen=True, kw_only=True)
class Gptq(Rounding):
    """Round weights column by column, later columns making up for the error, then move single weights.

    Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers";
    the sweeps after it are coordinate descent on the same error. Ranges stay as they are, per tensor,
    channel, block or LPBQ: choose them first, as ``calibrate(weights="mse")`` does.

    Attributes:
        act_order: Whether the columns that meet the largest inputs come first.
        block: Columns rounded before the rest of the row hears of it.
        sweeps: How often each weight may move once more at the end.
    """

    act_order: bool = True
    block: int = 128
    sweeps: int = 2

    name = "gptq"

    def rounded(self, layer: Layer, target: torch.Tensor, moments: Moments, grid: Grid) -> torch.Tensor:
        rows = gptq_rows(
            target,
            moments.hessian,
            grid,
            damping=self.damping,
            block=self.block,
            act_order=self.act_order,
        )
        return refined_rows(rows, target, moments.hessian, grid, self.sweeps, self.block)
