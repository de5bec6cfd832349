"""NVIDIA's arithmetic of float quantization: multiplied by the largest number over amax, and divided again.

With a = amax, M the largest number of the float type (448 for E4M3), m = M / a and R the rounding to the type
(``rounding``)::

    x_dq = R(clamp(x * m, -M, M)) / m        0 where |x| < 2^-24        dx = g where |x| <= a, else 0

``quantization.multiplier`` is the same for integers.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from fxquant.quantization.float.float_type import FloatType
from fxquant.quantization.float.rounding import compute_dtype, round_to_type_
from fxquant.quantization.functional import in_dtype
from fxquant.quantization.gradients import needs_gradient
from fxquant.quantization.multiplier import SMALLEST_AMAX
from fxquant.quantization.within import is_within, passed


def quantize_dequantize(
    tensor: torch.Tensor, amax: torch.Tensor | None, float_type: FloatType
) -> torch.Tensor:
    """Return the values on the scaled grid of a float type nearest to a tensor, in its type; differentiable.

    Args:
        tensor: Float tensor of any shape.
        amax: Largest magnitude represented, broadcastable against tensor; None for a multiplier of 1.
        float_type: The type to simulate.
    """
    if needs_gradient(tensor):
        result: torch.Tensor = _QuantizeDequantize.apply(tensor, amax, float_type)  # type: ignore[no-untyped-call]  # torch is untyped here
        return result
    return _snap(tensor, amax, float_type)


class _QuantizeDequantize(torch.autograd.Function):
    """``quantize_dequantize`` with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, amax: torch.Tensor | None, float_type: FloatType
    ) -> torch.Tensor:
        end = tensor.new_full((), float_type.max) if amax is None else amax
        ctx.save_for_backward(is_within(tensor, end.neg(), end))
        return _snap(tensor, amax, float_type)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return passed(grads[0], ctx.saved_tensors[0]), None, None


def _snap(tensor: torch.Tensor, amax: torch.Tensor | None, float_type: FloatType) -> torch.Tensor:
    wide = compute_dtype(tensor.dtype, float_type)
    if amax is None:
        real = round_to_type_(tensor.to(wide, copy=True), float_type)
    else:
        divisor = in_dtype(amax.detach(), torch.promote_types(amax.dtype, torch.float32))
        multiplier = in_dtype(torch.full_like(divisor, float_type.max) / divisor, wide)
        real = round_to_type_(torch.mul(in_dtype(tensor, wide), multiplier), float_type).div_(multiplier)
    return in_dtype(real.masked_fill_(tensor.abs() < SMALLEST_AMAX, 0.0), tensor.dtype)
