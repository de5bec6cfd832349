"""Clipping with learned ends: PACT's gradient (Choi et al. 2018, section 3), for both ends of a range.

With g the gradient of the output::

    y = min(max(x, low), high)
    dx = g where low < x < high, else 0    dlow = sum(g where x <= low)    dhigh = sum(g where x >= high)
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from fxquant.errors import OptionError


def clip(tensor: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Return a tensor clipped to a range; differentiable in all three.

    Args:
        tensor: Float tensor of any shape.
        low: Lower end, broadcastable against tensor.
        high: Upper end, likewise.

    Raises:
        OptionError: In the backward, if an end is not a scalar.
    """
    clipped: torch.Tensor = Clip.apply(tensor, low, high)  # type: ignore[no-untyped-call]  # torch is untyped here
    return clipped


class Clip(torch.autograd.Function):
    """``clip`` with its gradient, as autograd sees it."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(tensor, low, high)
        return torch.minimum(torch.maximum(tensor, low), high)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        tensor, low, high = ctx.saved_tensors
        if low.numel() != 1 or high.numel() != 1:
            raise OptionError("The ends of a clipped range can only be scalar in the backward.")
        is_below, is_above = tensor <= low, tensor >= high
        _, learns_low, learns_high = ctx.needs_input_grad
        return (
            grad.masked_fill(is_below | is_above, 0.0),
            _sum(grad, is_below, low) if learns_low else None,
            _sum(grad, is_above, high) if learns_high else None,
        )


def _sum(grad: torch.Tensor, mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return grad.masked_fill(mask.logical_not(), 0.0).sum().reshape(like.shape).to(like.dtype)
