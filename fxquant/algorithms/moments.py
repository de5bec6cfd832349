"""Moments: what a layer's weight has to fit, from the patches of all batches."""

from dataclasses import dataclass

import torch

from fxquant.algorithms.layers import Layer
from fxquant.algorithms.streams import Stage


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Second moments of a layer's patches, a mean over places; float32 [groups, length, length].

    With x the patches that the quantized model gives the layer, and x' those of the float model, rows q in
    place of w cost ``mean |q x - w x'|^2 = q H q^T - 2 q C w^T + const``.

    Attributes:
        hessian: H, the mean of x x^T.
        cross: C, the mean of x x'^T; None where the float stream was not asked for.
        power: The mean of |w x'|^2, the power of the outputs, float32 [groups, outputs].
    """

    hessian: torch.Tensor
    cross: torch.Tensor | None
    power: torch.Tensor

    def shrunk(self, share: float) -> "Moments":
        """Return moments whose inputs are that much less alike: products of two of them are a share smaller.

        Of few places, two inputs are alike by chance, and what makes use of that is wrong for other data.
        Schaefer and Strimmer 2005, "A Shrinkage Approach to Large-Scale Covariance Matrix Estimation",
        table 2, target D.

        Args:
            share: From 0, as the data says, to 1, as if no two inputs had anything in common.
        """
        less = self.hessian.mul(-share)
        less.diagonal(dim1=1, dim2=2).zero_()
        cross = None if self.cross is None else self.cross + less  # the error of the input stays what it is
        return Moments(hessian=self.hessian + less, cross=cross, power=self.power)

    def target(self, rows: torch.Tensor, damping: float) -> torch.Tensor:
        """Return the rows that fit best without a grid: they make up for what is wrong with the input.

        These are ``w + w (C^T - H) (H + damping)^-1``: with much damping, w itself.
        """
        if self.cross is None:
            return rows
        size = self.hessian.diagonal(dim1=1, dim2=2).mean(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
        eye = torch.eye(rows.shape[2], device=rows.device, dtype=torch.float64)
        damped = self.hessian.double() + eye * (damping * size.double())[:, None, None]
        change = rows.double() @ (self.cross.mT - self.hessian).double()
        solved: torch.Tensor = torch.linalg.solve(damped, change, left=False)
        return rows + solved.to(rows.dtype)

    def error(self, rows: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of outputs against those of target rows, [groups, outputs]."""
        difference = (rows - target).float()
        return (difference @ self.hessian).mul_(difference).sum(dim=2).clamp_min_(0.0)


def moments_of(stage: Stage, layer: Layer, rows: torch.Tensor, *, with_cross: bool) -> Moments:
    """Return the moments of a layer's patches.

    Args:
        stage: The block that the layer is in.
        layer: The layer.
        rows: Its weight in float.
        with_cross: Whether its input in float is wanted, too.
    """
    length = rows.shape[2]
    hessian = rows.new_zeros(rows.shape[0], length, length, dtype=torch.float32)
    cross = torch.zeros_like(hessian) if with_cross else None
    power = rows.new_zeros(rows.shape[:2], dtype=torch.float32)
    places = 0.0
    floats = stage.values(layer.input, is_quantized=False) if with_cross else None
    for value in stage.values(layer.input, is_quantized=True):
        patches = layer.patches(value.detach()).float()
        in_float = patches if floats is None else layer.patches(next(floats).detach()).float()
        outputs = (in_float @ rows.float().mT).square_()
        share = importance(outputs.mean(dim=2, keepdim=True))
        weighted = patches * share
        hessian.baddbmm_(patches.mT, weighted)
        if cross is not None:
            cross.baddbmm_(weighted.mT, in_float)
        power += outputs.mul_(share).sum(dim=1)
        places += float(share[0].sum())
    scale = 1.0 / max(places, 1e-30)
    return Moments(
        hessian=hessian.mul_(scale),
        cross=None if cross is None else cross.mul_(scale),
        power=power.mul_(scale),
    )


def importance(powers: torch.Tensor) -> torch.Tensor:
    """Return how much each place counts, given the power of its outputs: ``mean / (power + mean)``.

    A few tokens of a language model have outputs a hundred times as large as all others', which a
    normalization behind the layer makes as small again. In a plain mean of squares nothing else would count.

    Args:
        powers: Mean squares, [groups, places, 1].
    """
    mean = powers.mean(dim=1, keepdim=True)
    return mean / (powers + mean).clamp_min_(torch.finfo(powers.dtype).tiny)
