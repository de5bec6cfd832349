"""AdaRound: round every weight up or down, whichever leaves the layer's output the least error together."""

from dataclasses import dataclass

import torch

from fxquant.algorithms.gptq_rows import Grid, refined_rows
from fxquant.algorithms.layers import Layer
from fxquant.algorithms.moments import Moments
from fxquant.algorithms.rounding import Rounding
from fxquant.algorithms.soft_rounding import SoftRounding, Weighing


@dataclass(frozen=True, kw_only=True)
class AdaRound(Rounding):
    """Learn for every weight whether it is rounded up or down, then mend single ones.

    Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization": the relaxation of
    section 3.3, solved for all rows of a layer at once on the moments of its input, which stand for all the
    data there was, not a batch of it. The sweeps after it are coordinate descent on the same
    error that goes no further than up or down.

    Attributes:
        iterations: Steps of Adam.
        rate: Its step size, in logits.
        weight: What a weight halfway between two values costs at the end, in squared steps of a weight that
            meets inputs of the mean power.
        warm_up: Share of the iterations before weights are pushed to an end.
        sweeps: How often each weight may turn once more at the end.
    """

    iterations: int = 500
    rate: float = 0.02
    weight: float = 0.5
    warm_up: float = 0.2
    sweeps: int = 4

    name = "adaround"

    def rounded(self, layer: Layer, target: torch.Tensor, moments: Moments, grid: Grid) -> torch.Tensor:
        weighing = Weighing(weight=self.weight, warm_up=self.warm_up)
        soft = SoftRounding(target, moments.hessian, grid)
        soft.learn(self.iterations, self.rate, weighing)
        rows, ends = soft.rows(), soft.ends()
        return refined_rows(rows, target, moments.hessian, grid, self.sweeps, _BLOCK, ends)


_BLOCK = 128  # columns that are visited before the others hear of it: a matter of speed only
