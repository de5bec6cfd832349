"""Sums and differences of two tensors on Qualcomm's HTP, found by experiment (see ``htp``)."""

import torch

from fxquant.quantization import AffineEncoding

_MOST = 15  # fraction bits of a ratio of scales


def sum_htp(
    first: torch.Tensor,
    first_encoding: AffineEncoding,
    second: torch.Tensor,
    second_encoding: AffineEncoding,
    output: AffineEncoding,
    *,
    is_difference: bool = False,
) -> torch.Tensor:
    """Return the levels of a sum or a difference, all generations alike.

    With ``r_i = F(s_i / s_y)``, ``z_i`` the zero points, ``round`` half up, and a difference's minus sign in
    ``m_2``, the codes are::

        n = min(15, 14 - ceil(log2(r_1 + r_2)))        (a difference: of the larger of the two)
        m_i = round(r_i * 2^n)
        c = 2^(n-1) + 2^8 * (z_y * 2^(n-8) - round((m_1 * z_1 + m_2 * z_2) / 2^8))
        q = floor((m_1 * q_1 + m_2 * q_2 + c) / 2^n)

    Measured up to ``r_1 + r_2 = 32``, beyond which it is another one.

    Args:
        first: Codes of the first operand, whole numbers in a float tensor.
        first_encoding: Its grid, of 8 bits.
        second: Codes of the second operand; broadcasts against the first.
        second_encoding: Its grid, of 8 bits.
        output: Grid of the output, of 8 bits.
        is_difference: Whether to subtract the second operand.
    """
    ratio = (first_encoding.scale / output.scale).double()
    other = (second_encoding.scale / output.scale).double()
    size = torch.maximum(ratio, other) if is_difference else ratio + other
    bits = (14 - size.log2().ceil()).clamp_max(_MOST)
    unit = torch.exp2(bits)
    weight, other_weight = (ratio * unit + 0.5).floor(), (other * unit + 0.5).floor()
    if is_difference:
        other_weight = -other_weight
    zeros = -(weight * first_encoding.offset + other_weight * second_encoding.offset)
    constant = unit / 2 + 2**8 * (-output.offset * unit / 2**8 - (zeros / 2**8 + 0.5).floor())
    total = first.double() * weight + second.double() * other_weight + constant
    codes = (total / unit).floor_().clamp_(output.qmin, output.qmax)
    return codes.add_(output.offset).float()
