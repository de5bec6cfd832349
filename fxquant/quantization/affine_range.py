"""NVIDIA's arithmetic of affine quantization between two ends, with the gradient that the ends cut off.

``functional.quantize_dequantize`` with ``s = (max - min) / (2^b - 1)`` and, unlike ``scale_and_offset``, an
offset that no zero point bounds: ``o = round(min / s) + 2^(b-1)``, on the grid [-2^(b-1), 2^(b-1) - 1]. The
gradient is ``dx = g where min <= x <= max, else 0``; the ends get none.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from fxquant.quantization.functional import in_dtype
from fxquant.quantization.gradients import QuantizeDequantize, needs_gradient
from fxquant.quantization.multiplier import own_dtype
from fxquant.quantization.within import is_within, passed


def quantize_dequantize_between(
    tensor: torch.Tensor, minimum: torch.Tensor, maximum: torch.Tensor, num_bits: int
) -> torch.Tensor:
    """Return the values on the grid nearest to a tensor, in its type; differentiable.

    Args:
        tensor: Float tensor of any shape.
        minimum: Lower end of the range, broadcastable against tensor.
        maximum: Upper end, of the same shape.
        num_bits: Bits of a code.
    """
    if needs_gradient(tensor):
        result: torch.Tensor = _QuantizeDequantize.apply(tensor, minimum, maximum, num_bits)  # type: ignore[no-untyped-call]  # torch is untyped here
        return result
    return _snap(tensor, minimum, maximum, num_bits)


class _QuantizeDequantize(torch.autograd.Function):
    """``quantize_dequantize_between`` with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, minimum: torch.Tensor, maximum: torch.Tensor, num_bits: int
    ) -> torch.Tensor:
        ctx.save_for_backward(is_within(tensor, minimum, maximum))
        return _snap(tensor, minimum, maximum, num_bits)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return passed(grads[0], ctx.saved_tensors[0]), None, None, None


def _snap(tensor: torch.Tensor, minimum: torch.Tensor, maximum: torch.Tensor, num_bits: int) -> torch.Tensor:
    half = 2 ** (num_bits - 1)
    step = (maximum.detach() - minimum.detach()) / (2 * half - 1)
    offset = (minimum.detach() / step).round() + half
    dtype = torch.promote_types(own_dtype(tensor, step), torch.float32)
    snapped = QuantizeDequantize.snap(
        in_dtype(tensor, dtype), in_dtype(step, dtype), in_dtype(offset, dtype), -half, half - 1, 0.0
    )
    return in_dtype(snapped, tensor.dtype)
