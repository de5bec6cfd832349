"""Qualcomm's HTP: from the accumulator of a product to the levels of its output, found by experiment.

Measured on the simulator in onnxruntime-qnn 2.7 (QAIRT 2.51); docs/arithmetic.md has the samples.
``F(x)`` is x rounded to float32; ``round`` goes half up. A multiplier is the result of these roundings::

    M_c = F(F(F(s_x * S) / s_y) * F(s_w[c] / S))        S = max over the channels of s_w

The matrix unit keeps few bits of the multiplier, and drops the low bits of the accumulator that it has no
room for: with ``e_c = floor(log2(M_c))``, it first shifts the accumulator right by ``k_c = -4 - e_c`` bits,
so that one step of what it keeps is 1/16 to 1/8 of an output step. See ``requantize_htp``.
"""

from enum import Enum

import torch

from fxquant.quantization import AffineEncoding

_KEPT = 4  # the accumulator keeps steps of 1/16 to 1/8 of an output step


class Generation(Enum):
    """Generations of the HTP that round differently."""

    V68 = "v68"
    """V68 (Snapdragon 888) and V69; also what the tools assume when no chip is named."""
    V73 = "v73"
    """V73 (Snapdragon 8 Gen 2), V75, V79 and V81."""

    @property
    def fraction_bits(self) -> int:
        """Bits behind the leading one that the matrix unit keeps of a multiplier."""
        return 10 if self is Generation.V68 else 11


def htp_multiplier(
    input_scale: torch.Tensor, weight_scale: torch.Tensor, output_scale: torch.Tensor
) -> torch.Tensor:
    """Return ``M_c``, output steps per step of the accumulator, in float32.

    Args:
        input_scale: Scale of the input, one number, float32.
        weight_scale: Scale of the weight, one number or one per output channel, in any shape.
        output_scale: Scale of the output, one number, float32.
    """
    largest = weight_scale.max()
    return input_scale * largest / output_scale * (weight_scale / largest)


def requantize_htp(
    accumulator: torch.Tensor,
    input_scale: torch.Tensor,
    weight_scale: torch.Tensor,
    output: AffineEncoding,
    *,
    generation: Generation = Generation.V73,
) -> torch.Tensor:
    """Return the levels that the matrix unit gives: for convolutions, linear layers and matrix products.

    With z the zero point, ``m_c`` the multiplier rounded to 11 (V68: 10) bits behind its leading one, and
    ``a >> k`` the floor of ``a / 2^k``::

        V73:  q = floor(m_c * ((a >> k_c) + 1/2) * 2^k_c + 1/2) + z       (no shift where k_c < 0)
        V68:  q = floor(m_c * ((a + round(F(z / M_c))) >> k_c) * 2^k_c + 1/2)        (k_c >= 0)

    V73 puts back half of what the shift drops; V68 does not, which makes its outputs too small by 1/32 to
    1/16 of a step on average, where the shift is large (``htp_bias.dropped_by_shift``).

    Args:
        accumulator: Exact sums of products of levels, bias included (see ``htp_bias.kept_bias``), as whole
            numbers in float32 or float64.
        input_scale: Scale of the input, one number, float32.
        weight_scale: Scale of the weight (or of the second operand), float32: one number, or one per output
            channel, shaped to broadcast against the accumulator.
        output: Grid of the output, of 8 bits.
        generation: Which hardware.
    """
    multiplier = htp_multiplier(input_scale, weight_scale, output.scale)
    rounded, exponent = _rounded(multiplier, generation.fraction_bits)
    shift = -_KEPT - exponent
    total = accumulator.double()
    if generation is Generation.V68:
        zero = _zero_in_accumulator(output, multiplier)
        codes = _floored(total + zero, shift.clamp_min(0)).mul_(rounded).add_(0.5).floor_()
        return _clamped(codes.add_(output.offset), output)
    half = torch.ldexp(torch.ones_like(rounded), shift - 1)
    kept = _floored(total, shift.clamp_min(0)).add_(half)
    return _clamped(kept.mul_(rounded).add_(0.5).floor_(), output)


def requantize_htp_vector(
    accumulator: torch.Tensor, input_scale: torch.Tensor, weight_scale: torch.Tensor, output: AffineEncoding
) -> torch.Tensor:
    """Return the levels that the vector unit gives: for depthwise convolutions with a stride of 2 by 2.

    All generations alike, with ``m_c`` the multiplier rounded to 14 bits behind its leading one::

        q = floor((a + round(F(z / M_c))) * m_c + (1/2 where M_c < 1/2, else 0))

    Args:
        accumulator: As for ``requantize_htp``, but with the bias as it is stored.
        input_scale: Scale of the input, one number, float32.
        weight_scale: Scale of the weight, shaped to broadcast against the accumulator, float32.
        output: Grid of the output, of 8 bits.
    """
    multiplier = htp_multiplier(input_scale, weight_scale, output.scale)
    rounded, exponent = _rounded(multiplier, 14)
    half = torch.where(exponent < -1, 0.5, 0.0).double()
    codes = (
        (accumulator.double() + _zero_in_accumulator(output, multiplier)).mul_(rounded).add_(half).floor_()
    )
    return _clamped(codes.add_(output.offset), output)


def mean_htp(
    total: torch.Tensor, count: int, input_scale: torch.Tensor, output: AffineEncoding
) -> torch.Tensor:
    """Return the levels that a global average pool gives, all generations alike.

    With m the ratio ``s_x / (s_y * n)`` rounded to 14 bits behind its leading one::

        q = floor(sum(levels) * m + 1/2) + z

    Args:
        total: Sums of levels, whole numbers in float32 or float64.
        count: Number n of elements in each sum.
        input_scale: Scale of the input, one number, float32.
        output: Grid of the output, of 8 bits.
    """
    rounded, _ = _rounded(input_scale.double() / output.scale.double() / count, 14)
    return _clamped((total.double() * rounded).add_(0.5).floor_(), output)


def _rounded(multiplier: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a multiplier rounded half up to bits behind its leading one, and the place of that one."""
    fraction, exponent = torch.frexp(multiplier.double())  # fraction in [1/2, 1)
    steps = (fraction * 2 ** (bits + 1) + 0.5).floor_()
    return torch.ldexp(steps, exponent - bits - 1), exponent - 1


def _zero_in_accumulator(output: AffineEncoding, multiplier: torch.Tensor) -> torch.Tensor:
    """Return the zero point of the output in steps of the accumulator."""
    return (-output.offset / multiplier).double().add_(0.5).floor_()


def _floored(total: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Return whole numbers without their low bits."""
    step = torch.ldexp(torch.ones_like(shift, dtype=torch.float64), shift)
    return torch.div(total, step).floor_().mul_(step)


def _clamped(levels: torch.Tensor, output: AffineEncoding) -> torch.Tensor:
    low, high = output.offset + output.qmin, output.offset + output.qmax
    return levels.float().clamp_min_(low).clamp_max_(high)
