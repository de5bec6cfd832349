"""SoftRounding: weights between two neighbours of their grid, which learn to which of them they go.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", section 3.3: a weight is
``s (floor(w / s) + h(V))`` with the rectified sigmoid ``h(V) = clamp(1.2 sigmoid(V) - 0.1, 0, 1)``,
and the loss ``(q - w) H (q - w)^T + lambda sum(1 - |2 h - 1|^beta)``, beta falling
along a cosine. The first term of each row is counted in squared steps of a weight that meets inputs of the
mean power, so that lambda means the same for every layer, row and bitwidth.
"""

import math
from dataclasses import dataclass

import torch

from fxquant.algorithms.gptq_rows import Grid

_STRETCH, _SHIFT = 1.2, 0.1  # zeta - gamma and -gamma of the rectified sigmoid
_FIRST_BETA, _LAST_BETA = 20.0, 2.0
_NEAREST_END = 0.01  # of where a weight begins: the sigmoid moves little further out
_MEAN, _SQUARE, _SMALL = 0.9, 0.999, 1e-8  # of Adam: Kingma and Ba 2015


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """How weights are pushed to an end.

    Attributes:
        weight: lambda.
        warm_up: Share of the iterations without a push.
    """

    weight: float
    warm_up: float

    def push(self, h: torch.Tensor, iteration: int, iterations: int) -> torch.Tensor | float:
        """Return the derivative of the push by h."""
        first = self.warm_up * iterations
        if iteration < first:
            return 0.0
        done = (iteration - first) / max(iterations - first, 1)
        beta = _LAST_BETA + (_FIRST_BETA - _LAST_BETA) * (1 + math.cos(math.pi * done)) / 2
        side = 2 * h - 1
        return side.abs().pow_(beta - 1).mul_(side.sign()).mul_(-2 * beta * self.weight)


class SoftRounding:
    """Rows between the neighbours on their grid of target rows.

    Args:
        target: The rows that they stand for, [groups, outputs, length].
        hessian: Moments of the patches, float32 [groups, length, length].
        grid: The grid of each element.
    """

    def __init__(self, target: torch.Tensor, hessian: torch.Tensor, grid: Grid) -> None:
        self._target, self._hessian, self._grid = target.float(), hessian, grid
        self._scale, self._offset = grid.scale.float(), grid.offset.float()
        exact = self._target / self._scale - self._offset
        self._below = exact.floor().clamp_(grid.qmin, grid.qmax - 1)
        share = (exact - self._below).clamp_(_NEAREST_END, 1 - _NEAREST_END)
        self._logits = -torch.log(_STRETCH / (share + _SHIFT) - 1)

    def learn(self, iterations: int, rate: float, weighing: Weighing) -> None:
        """Move the weights to their ends, with Adam."""
        powers = self._hessian.diagonal(dim1=1, dim2=2)[:, None] * self._scale.square()
        tiny = torch.finfo(powers.dtype).tiny
        per_step = 2 * self._scale / powers.mean(dim=2, keepdim=True).clamp_min(tiny)
        mean, square = torch.zeros_like(self._logits), torch.zeros_like(self._logits)
        for iteration in range(iterations):
            sigmoid = self._logits.sigmoid()
            raw = _STRETCH * sigmoid - _SHIFT
            h = raw.clamp(0, 1)
            error = self._values(self._below + h) - self._target
            gradient = (error @ self._hessian).mul_(per_step).add_(weighing.push(h, iteration, iterations))
            gradient *= _STRETCH * sigmoid * (1 - sigmoid) * (raw == h)
            mean.lerp_(gradient, 1 - _MEAN)
            square.mul_(_SQUARE).addcmul_(gradient, gradient, value=1 - _SQUARE)
            size = (square / (1 - _SQUARE ** (iteration + 1))).sqrt_().add_(_SMALL)
            self._logits.addcdiv_(mean, size, value=-rate / (1 - _MEAN ** (iteration + 1)))

    def rows(self) -> torch.Tensor:
        """Return the rows, each weight at the end that it is nearer to."""
        return self._values(self._below + (self._logits >= 0))

    def ends(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the values below and above each weight."""
        return self._values(self._below), self._values(self._below + 1)

    def _values(self, codes: torch.Tensor) -> torch.Tensor:
        return (codes + self._offset) * self._scale
