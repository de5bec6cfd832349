"""NVIDIA's arithmetic of symmetric quantization: values are multiplied by bound / amax, and divided again.

With a = amax the largest magnitude represented, b the highest code and m the multiplier (pytorch-quantization
2.2; its documents call m the scale, which elsewhere is the name of 1 / m)::

    m    = b / a                                      0 where a <= 2^-24, so that everything becomes 0
    x_q  = clamp(round(x * m), qmin, qmax)            round half to even
    x_dq = x_q / m                                    m counts as 1 here where it is 0

A product differs from the quotient x / (a / b) of ``functional`` in its last digit, and so now and then in
its code; whoever moves a model from one to the other sees that. The gradient of both passes straight through
the rounding, ``dx = g where |x| <= a, else 0``, with both ends, and that although codes above a may exist
(qmin is -b - 1 where the range is not narrow). amax gets no gradient.

amax broadcasts against the tensor: shape [] or, per channel, for example [out, 1, 1, 1]. ``float.multiplier``
is the same for float types, ``affine_range`` for a range with two ends.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from fxquant.quantization.functional import in_dtype
from fxquant.quantization.gradients import needs_gradient
from fxquant.quantization.within import is_within, passed

SMALLEST_AMAX = 2.0**-24
"""The smallest number of float16: up to here a range counts as empty."""


def quantize(
    tensor: torch.Tensor, amax: torch.Tensor, qmin: int, qmax: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the codes of a tensor, as whole numbers in its float type, and the multiplier; differentiable.

    float16 is computed in float32; every other type in its own. The multiplier, in float32 at least, is 1
    where a range is empty.

    Args:
        tensor: Tensor of any shape; the results of integers are float32.
        amax: Largest magnitude represented, not negative; broadcastable against tensor.
        qmin: Lowest code.
        qmax: Highest code, which stands for amax.
    """
    dtype = own_dtype(tensor, amax)
    multiplier, divisor = multipliers(amax, qmax)
    multiplier = in_dtype(multiplier, dtype)
    if needs_gradient(tensor):
        codes: torch.Tensor = _Quantize.apply(tensor, amax, multiplier, qmin, qmax)  # type: ignore[no-untyped-call]  # torch is untyped here
    else:
        codes = _codes(tensor, multiplier, qmin, qmax)
    return codes, divisor


def quantize_dequantize(
    tensor: torch.Tensor,
    amax: torch.Tensor,
    qmin: int,
    qmax: int,
    dtype: torch.dtype | None = None,
    *,
    counts_floor_as_empty: bool = True,
) -> torch.Tensor:
    """Return the values on the grid nearest to a tensor, in its type; differentiable.

    Args:
        tensor: Tensor of any shape; the results of integers are float32.
        amax: Largest magnitude represented, not negative; broadcastable against tensor.
        qmin: Lowest code.
        qmax: Highest code, which stands for amax.
        dtype: Float type to compute in; None for that of tensor and amax, float32 at least.
        counts_floor_as_empty: Whether a range of exactly ``SMALLEST_AMAX`` is empty: not so in NVIDIA's
            kernel.
    """
    dtype = dtype or torch.promote_types(own_dtype(tensor, amax), torch.float32)
    multiplier, divisor = (
        in_dtype(factor, dtype) for factor in multipliers(amax, qmax, counts_floor_as_empty)
    )
    if needs_gradient(tensor):
        result: torch.Tensor = _QuantizeDequantize.apply(tensor, amax, multiplier, divisor, qmin, qmax)  # type: ignore[no-untyped-call]  # torch is untyped here
        return result
    return _like(tensor, _snap(tensor, multiplier, divisor, qmin, qmax))


def multipliers(
    amax: torch.Tensor, bound: float, counts_floor_as_empty: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what to multiply by, and what to divide by again; they differ where a range is empty: 0 and 1.

    Args:
        amax: Largest magnitude represented, not negative, of any shape.
        bound: The number that stands for amax: the highest code, or the largest number of a float type.
        counts_floor_as_empty: Whether a range of exactly ``SMALLEST_AMAX`` is empty.
    """
    wide = in_dtype(amax.detach(), torch.promote_types(amax.dtype, torch.float32))
    multiplier = torch.full_like(wide, bound) / wide  # torch computes bound / wide as bound * (1 / wide)
    is_empty = wide.le(SMALLEST_AMAX) if counts_floor_as_empty else wide.lt(SMALLEST_AMAX)
    return multiplier.masked_fill(is_empty, 0.0), multiplier.masked_fill(is_empty, 1.0)


def own_dtype(tensor: torch.Tensor, amax: torch.Tensor) -> torch.dtype:
    """Return the type that a tensor and its amax are computed in: torch's own choice, float32 for float16.

    A single amax adapts to the tensor, as ``torch.result_type`` says too, which no compiler knows.
    """
    adapts = amax.dim() == 0 and tensor.dim() > 0 and tensor.is_floating_point()
    dtype = tensor.dtype if adapts else torch.promote_types(tensor.dtype, amax.dtype)
    return torch.float32 if dtype is torch.float16 else dtype


class _Quantize(torch.autograd.Function):
    """``quantize`` with its gradient, which is not multiplied: the codes count as values."""

    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, amax: torch.Tensor, multiplier: torch.Tensor, qmin: int, qmax: int
    ) -> torch.Tensor:
        ctx.save_for_backward(is_within(tensor, amax.neg(), amax))
        return _codes(tensor, multiplier, qmin, qmax)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return passed(grads[0], ctx.saved_tensors[0]), None, None, None, None


class _QuantizeDequantize(torch.autograd.Function):
    """``quantize_dequantize`` with its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        tensor: torch.Tensor,
        amax: torch.Tensor,
        multiplier: torch.Tensor,
        divisor: torch.Tensor,
        qmin: int,
        qmax: int,
    ) -> torch.Tensor:
        ctx.save_for_backward(is_within(tensor, amax.neg(), amax))
        return _like(tensor, _snap(tensor, multiplier, divisor, qmin, qmax))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return passed(grads[0], ctx.saved_tensors[0]), None, None, None, None, None


def _like(tensor: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """Return a result in the type of a float tensor; those of integers stay as they were computed."""
    return in_dtype(result, tensor.dtype) if tensor.is_floating_point() else result


def _codes(tensor: torch.Tensor, multiplier: torch.Tensor, qmin: int, qmax: int) -> torch.Tensor:
    return _like(tensor, _rounded(tensor, multiplier, qmin, qmax))


def _snap(
    tensor: torch.Tensor, multiplier: torch.Tensor, divisor: torch.Tensor, qmin: int, qmax: int
) -> torch.Tensor:
    codes = _rounded(tensor, multiplier, qmin, qmax)
    return codes / divisor if torch.onnx.is_in_onnx_export() else codes.div_(divisor)


def _rounded(tensor: torch.Tensor, multiplier: torch.Tensor, qmin: int, qmax: int) -> torch.Tensor:
    """Return the codes in the type of the multiplier, in a fresh buffer."""
    product = torch.mul(in_dtype(tensor, multiplier.dtype), multiplier)
    if torch.onnx.is_in_onnx_export():  # the older exporter knows no arithmetic in place
        return product.round().clamp(qmin, qmax)
    return product.round_().clamp_min_(qmin).clamp_max_(qmax)  # half the cost of clamp_
