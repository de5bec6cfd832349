"""Sums and products of two tensors, in the roundings of ONNX Runtime's kernels on x86-64 with AVX2.

fma(a, b, c) is a * b + c rounded once. It is computed in float64, where codes of 8 bits times a float32 ratio
are exact, and so is their sum with a float32 number that is at most 2^21 times the ratio.
"""

import torch

from fxquant.arithmetic.call import Call
from fxquant.arithmetic.levels import Leveled, levels_of_codes
from fxquant.quantization import AffineEncoding


def add(call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None) -> torch.Tensor:
    """Return the levels that QLinearAdd gives.

    With r the scales over the output's, in float32::

        f = z_out - fma(r_1, z_1, r_2 * z_2)
        q = clamp(rint(fma(q_1, r_1, fma(q_2, r_2, f))), qmin, qmax)

    The operands change places where the first is one number along the innermost axis and the second is not.
    """
    assert output is not None
    first, second = _in_order(*inputs)
    ratio, other_ratio = first.scale / output.scale, second.scale / output.scale
    fixed = -output.offset - _fma(ratio, first.zero_point, other_ratio * second.zero_point)
    inner = _fma(second.codes, other_ratio, fixed)
    return levels_of_codes(_fma(first.codes, ratio, inner), output)


def multiply(call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None) -> torch.Tensor:
    """Return the levels that QLinearMul gives.

    ``q = clamp(rint(level_1 * level_2 * m + z), qmin, qmax)`` with ``m = s_1 * s_2 / s_out``, each product,
    the quotient and the sum rounded to float32.
    """
    assert output is not None
    first, second = inputs
    multiplier = first.scale * second.scale / output.scale
    products = torch.mul(first.levels, second.levels).mul_(multiplier)
    return levels_of_codes(products.sub_(output.offset), output)


def _fma(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return (a.double() * b.double()).add(c).float()


def _in_order(first: Leveled, second: Leveled) -> tuple[Leveled, Leveled]:
    """Return two operands in the order in which the kernel of a sum takes them."""
    rank = max(first.real.dim(), second.real.dim())
    sizes, others = (
        (1,) * (rank - operand.real.dim()) + tuple(operand.real.shape) for operand in (first, second)
    )
    aligned = zip(reversed(sizes), reversed(others), strict=True)
    inner = next((pair for pair in aligned if max(pair) > 1), (0, 0))
    return (second, first) if inner[0] == 1 else (first, second)
