"""SequentialMse: choose the range of each weight by the error that it leaves the layer's output.

For each candidate range, a share of the weight's min-max range, the weight q on its grid costs
``(q - w) H (q - w)^T``, H being the moments of what the layer reads. AIMET's documentation has the search
under this name; layers come one after the other, each on what the quantized model gives it.
"""

import copy
from dataclasses import dataclass

import torch

from fxquant.algorithms.context import Context
from fxquant.algorithms.layers import Layer
from fxquant.algorithms.layerwise import Layerwise, grid_of, of_each, share_of
from fxquant.algorithms.moments import Moments
from fxquant.algorithms.range_choice import RangeChoice
from fxquant.calibration.methods import METHODS, set_range
from fxquant.quantization.affine import QuantizeDequantize


@dataclass(frozen=True, kw_only=True)
class SequentialMse(Layerwise):
    """Choose weight ranges, per tensor, channel or block, by the error of the layer's output.

    Candidates are shares of the min-max range and the range that is there. Where one range decides over
    others (LPBQ: blocks of a group), they get one share together. Weights stay as they are.

    Attributes:
        candidates: How many shares are tried.
        least: The smallest share.
        sweeps: How often the ranges of each block are chosen, given those of the others.
    """

    candidates: int = 40
    least: float = 0.3
    sweeps: int = 2

    name = "sequential-mse"

    def mend(self, layer: Layer, rows: torch.Tensor, moments: Moments, context: Context) -> None:
        quantizer = layer.quantizer
        if not quantizer.is_overwrite_allowed():
            context.declined(layer.path, "the range of its weight is given")
            return
        lows, highs = self._candidates(layer)
        target = moments.target(rows, self.damping)
        units = _units(quantizer)
        choice = RangeChoice(moments.hessian, target, of_each(layer, units, quantizer.block_size))
        trial = copy.deepcopy(quantizer)
        for low, high in zip(lows, highs, strict=True):
            trial.set_range(low, high)
            choice.add(grid_of(layer, trial).snapped(rows))
        before = moments.error(choice.rows(), target)
        index = choice.chosen(self.sweeps).to(lows.device)[units.reshape(-1)].reshape(units.shape)
        after = moments.error(choice.rows(), target)
        power = float(moments.power.sum())
        shares = share_of(before, power), share_of(after, power)
        if not bool((index > 0).any()) or not float(after.sum()) < float(before.sum()):
            context.declined(layer.path, "no other range lowers its error", *shares)
            return
        ends = (end.gather(0, index[None])[0] for end in (lows, highs))
        context.set_range(quantizer, *ends)
        context.applied(layer.path, f"{int((index > 0).sum())} of {index.numel()} ranges are new", *shares)

    def _candidates(self, layer: Layer) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ends of the candidates, [candidates, *shape of the range]; the first is there now."""
        widest = copy.deepcopy(layer.quantizer)
        analyzer = METHODS["minmax"].analyzer(widest.shape, widest.block_size, 0, None)
        analyzer.update_stats(layer.weight.detach())
        set_range(widest, analyzer)
        shares = torch.linspace(self.least, 1.0, self.candidates).tolist()
        found = []
        for quantizer in (layer.quantizer, widest):
            low, high = quantizer.get_min(), quantizer.get_max()
            assert low is not None and high is not None
            found.append((low.detach(), high.detach()))
        (now_low, now_high), (low, high) = found
        lows = torch.stack([now_low, *(low * share for share in shares)])
        return lows, torch.stack([now_high, *(high * share for share in shares)])


def _units(quantizer: QuantizeDequantize) -> torch.Tensor:
    """Return the number of the ranges that have to change together, for each: int64 of the range's shape."""
    device = next(quantizer.parameters()).device
    groups = getattr(quantizer, "group_shape", quantizer.shape)
    numbers = torch.arange(max(1, int(torch.tensor(groups).prod())), device=device).reshape(groups)
    for axis, (size, group) in enumerate(zip(quantizer.shape, groups, strict=True)):
        numbers = numbers.repeat_interleave(size // group, dim=axis)
    return numbers
