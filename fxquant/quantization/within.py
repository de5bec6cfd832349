"""Straight-through gradients that pass where a value lies within its range, both ends included.

``dx = g where low <= x <= high, else 0``: one byte per element is kept for it.
"""

import torch

from fxquant.quantization.pieces import pieces


def is_within(tensor: torch.Tensor, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """Return where a tensor lies within a range, 1 or 0 in int8; NaN lies in none.

    Args:
        tensor: Float tensor of any shape.
        low: Lower end, broadcastable against tensor.
        high: Upper end, likewise.
    """
    mask = torch.empty_like(tensor, dtype=torch.int8)  # turns into floats faster than bool does
    for x, is_inside, lo, hi in pieces(tensor, mask, low, high):
        is_inside.copy_(torch.clamp_min(x, lo).clamp_max_(hi).eq_(x))
    return mask


def passed(gradient: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the gradient where the mask is 1, and 0 elsewhere."""
    return mask.to(gradient.dtype).mul_(gradient)
