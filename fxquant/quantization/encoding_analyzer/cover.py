"""The range of a grid that covers given values."""

import torch

from fxquant.quantization.functional import smallest_scale


def cover(
    minimum: torch.Tensor,
    maximum: torch.Tensor,
    num_steps: int,
    is_symmetric: bool,
    *,
    may_clip_two_bits: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the range of a grid of ``num_steps`` steps that covers [minimum, maximum] and zero.

    With n steps, a symmetric grid has a = floor(n/2) steps above zero and b = ceil(n/2) below::

        asymmetric   [min(min, 0), max(max, 0)]
        symmetric    [-b * step, a * step],   step = max(max / a, -min / b)
        2 bits       step = max(max / 2, -min / 2): clips above 1 step rather than waste a level below

    A range narrower than n times s = ``smallest_scale(n)`` is first widened by n * s: at the upper end, or,
    symmetric, by a * s above and b * s below. An operation rounds as in AIMET 2.42, so that the results are
    equal bit for bit, but for two things: ends beyond a quarter of the largest float32, infinite ones
    included, become that quarter, so that the scale of the range is finite; and the range of a half type
    stays float32 where AIMET rounds it to the half type.

    Args:
        minimum: Smallest value, any shape and float type. NaN stays NaN.
        maximum: Largest value, same shape and type.
        num_steps: Number of steps of the grid, 255 for 8 bits.
        is_symmetric: Whether zero is to lie in the middle of the grid.
        may_clip_two_bits: Whether the rule for 2 bits holds; else 2 bits are as any other.

    Returns:
        Lower and upper end, of the shape of minimum, float32 or wider.
    """
    dtype = minimum.dtype
    largest = min(torch.finfo(dtype).max, torch.finfo(torch.float32).max / 4)
    minimum = minimum.clamp(-largest, 0.0)
    maximum = maximum.clamp(0.0, largest)
    is_narrow = (maximum - minimum) / num_steps < smallest_scale(num_steps)
    step = is_narrow.to(torch.float32) * smallest_scale(num_steps)
    if not is_symmetric:
        return minimum.to(torch.promote_types(dtype, torch.float32)), maximum + num_steps * step
    above, below = num_steps // 2, num_steps - num_steps // 2
    maximum, minimum = maximum + above * step, minimum - below * step
    steps_to_maximum = above + 1 if may_clip_two_bits and num_steps == 3 else max(above, 1)
    size = torch.maximum(maximum / steps_to_maximum, -minimum / below)
    limit = torch.finfo(dtype).max
    return (-below * size).clamp_min(-limit), (above * size).clamp_max(limit)
