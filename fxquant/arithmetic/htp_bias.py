"""What Qualcomm's HTP makes of an int32 bias, and what its V68 generation drops of every accumulator."""

import torch

from fxquant.arithmetic.htp import htp_multiplier

_BITS = 28  # of the integers that hold a bias between two conversions


def kept_bias(bias: torch.Tensor, input_scale: torch.Tensor, weight_scale: torch.Tensor) -> torch.Tensor:
    """Return the bias that HTP V73 and its successors add: the int32 bias, or one step nearer to zero.

    The bias goes through float32 and back, at one scale for all channels; a layer with a scale per channel
    stores it as integers of 28 bits in between. With ``F(x)`` x rounded to float32, and r to the nearest
    whole number, half to even::

        S = F(s_x * max(s_w))    v = F(b * S)    g = F(max|v| / 2^28)    v' = F(r(F(v * F(1 / g))) * g)
        b' = trunc(F(v' / S))            (a single scale: v' = v)

    V68 adds the bias as it is stored.

    Args:
        bias: Whole numbers at a scale of ``s_x * s_w[c]``, shape [channels], in float64.
        input_scale: Scale of the input, one number, float32.
        weight_scale: Scale of the weight, one number or [channels], float32.
    """
    scale = input_scale * weight_scale.max()
    real = bias.float() * scale
    grid = real.abs().max() / 2**_BITS
    if weight_scale.numel() > 1 and bool(grid > 0):
        real = (real * (1 / grid)).round_() * grid
    return (real / scale).trunc_().double()


def dropped_by_shift(
    input_scale: torch.Tensor, weight_scale: torch.Tensor, output_scale: torch.Tensor
) -> torch.Tensor:
    """Return what V68's shift drops of an accumulator on average, ``(2^k_c - 1) / 2`` rounded down.

    Added to the int32 bias of a layer meant for V68 or V69, it takes away the mean error of its outputs
    against exact arithmetic, which is up to -1/16 of a step. Elsewhere it would add one.

    Args:
        input_scale: Scale of the input, one number, float32.
        weight_scale: Scale of the weight, one number or one per output channel, float32.
        output_scale: Scale of the output, one number, float32.
    """
    _, exponent = torch.frexp(htp_multiplier(input_scale, weight_scale, output_scale))
    shift = (-3 - exponent).clamp_min(0)  # frexp counts from 1/2
    return torch.ldexp(torch.ones_like(shift, dtype=torch.float64), shift).sub_(1).div_(2).floor_()
