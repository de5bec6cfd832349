"""The arithmetic of affine quantization; every other file refers to these formulas.

With s the scale, o the offset (minus the zero point) and [qmin, qmax] the grid (AIMET's convention)::

    x_q  = clamp(round(x / s) - o, qmin, qmax)          round half to even, as ONNX QuantizeLinear does
    x_dq = (x_q + o) * s

Division by the scale is exact where multiplication by its reciprocal is not: 0 against some 70 differing
codes in 10^7. Gradients are straight-through inside the grid and zero outside; scale and offset get the
gradients of LSQ (Esser et al. 2020, "Learned Step Size Quantization", section 2.1)::

    dx      = g * inside
    dscale  = g * (round(x/s) - x/s   inside;   clamp(round(x/s), qmin + o, qmax + o)   outside)
    doffset = g * (0                  inside;   s                                       outside)

scale and offset broadcast against the tensor: shape [] or, per channel, for example [out, 1, 1, 1].
"""

from typing import Any

import torch

_EPS_SHARE = 0.25  # a float type computes a grid when its eps is at most this share of one step of it


def quantize(
    tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int
) -> torch.Tensor:
    """Return the codes of ``tensor`` as whole numbers in [qmin, qmax], in the tensor's float type."""
    lower, upper = offset + qmin, offset + qmax
    return (quantize_dequantize_codes(tensor, scale, lower, upper) - offset).to(tensor.dtype)


def dequantize(codes: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """Return ``(codes + offset) * scale`` in the float type of scale; codes may be an integer tensor."""
    return codes.to(scale.dtype).add(offset).mul(scale)


def quantize_dequantize(
    tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int
) -> torch.Tensor:
    """Return the values on the grid nearest to ``tensor``, in its float type; differentiable.

    Args:
        tensor: Float tensor of any shape. Integer and bool tensors are returned as they are.
        scale: Real size of one step, positive, broadcastable against tensor.
        offset: Minus the zero point, whole numbers, broadcastable against tensor.
        qmin: Lowest code.
        qmax: Highest code.
    """
    if not tensor.is_floating_point():
        return tensor
    dtype = compute_dtype(tensor.dtype, qmax - qmin)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (tensor, scale, offset)):
        output: torch.Tensor = _QuantizeDequantize.apply(  # type: ignore[no-untyped-call]  # torch is untyped here
            tensor.to(dtype), scale.to(dtype), offset.to(dtype), qmin, qmax
        )
        return output.to(tensor.dtype)
    scale, offset = scale.to(dtype), offset.to(dtype)
    return snap(tensor.to(dtype), scale, offset + qmin, offset + qmax).to(tensor.dtype)


def snap(tensor: torch.Tensor, scale: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor) -> torch.Tensor:
    """Return ``clamp(round(tensor / scale), lower, upper) * scale`` in one fresh buffer.

    It equals quantize_dequantize with lower = offset + qmin and upper = offset + qmax, because
    clamp(r - o, qmin, qmax) + o = clamp(r, qmin + o, qmax + o): all of them whole numbers.
    """
    return quantize_dequantize_codes(tensor, scale, lower, upper).mul_(scale)


def quantize_dequantize_codes(
    tensor: torch.Tensor, scale: torch.Tensor, lower: torch.Tensor, upper: torch.Tensor
) -> torch.Tensor:
    """Return ``clamp(round(tensor / scale), lower, upper)``: codes relative to real zero, a fresh buffer."""
    return torch.div(tensor, scale).round_().clamp_min_(lower).clamp_max_(upper)  # half the cost of clamp_


def scale_and_offset(
    minimum: torch.Tensor, maximum: torch.Tensor, qmin: int, qmax: int, symmetric: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scale and offset of the grid that covers a range; differentiable in the range.

    ``scale = |max - min| / (qmax - qmin)``, at least ``smallest_scale``. A symmetric offset is the constant
    that puts real zero in the middle of the grid (0 for int8); otherwise
    ``offset = clamp(round(min / scale) - qmin, -qmax, -qmin)``, so that zero is a code.

    Args:
        minimum: Lower end of the range, any shape.
        maximum: Upper end, same shape.
        qmin: Lowest code.
        qmax: Highest code.
        symmetric: Whether zero lies in the middle of the grid.
    """
    scale = ((maximum - minimum) / (qmax - qmin)).abs().clamp_min(smallest_scale(qmax - qmin))
    if symmetric:
        return scale, torch.full_like(scale, float(-round((qmin + qmax) / 2)))
    rounded = minimum / scale
    rounded = rounded + (rounded.round() - rounded).detach()
    return scale, (rounded - qmin).clamp(-qmax, -qmin)


def smallest_scale(num_steps: int) -> float:
    """Return the smallest scale in use: float32 eps, or less on very fine grids."""
    return min(torch.finfo(torch.float32).eps, 0.01 / num_steps)


def compute_dtype(dtype: torch.dtype, num_steps: int) -> torch.dtype:
    """Return the float type to compute a grid in: the tensor's own unless it is too coarse for it."""
    for candidate in (dtype, torch.float32):
        if torch.finfo(candidate).eps <= _EPS_SHARE / num_steps:
            return candidate
    return torch.float64


class _QuantizeDequantize(torch.autograd.Function):
    """quantize_dequantize with the gradients of the module docstring."""

    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int
    ) -> torch.Tensor:
        ctx.save_for_backward(tensor, scale, offset)
        ctx.grid = qmin, qmax
        return snap(tensor, scale, offset + qmin, offset + qmax)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        tensor, scale, offset = ctx.saved_tensors
        qmin, qmax = ctx.grid
        ratio = tensor / scale
        rounded = ratio.round()
        clamped = rounded.clamp(offset + qmin, offset + qmax)
        inside = rounded == clamped
        grad_tensor = grad_scale = grad_offset = None
        if ctx.needs_input_grad[0]:
            grad_tensor = grad * inside
        if ctx.needs_input_grad[1]:
            grad_scale = (grad * torch.where(inside, rounded - ratio, clamped)).sum_to_size(scale.shape)
        if ctx.needs_input_grad[2]:
            grad_offset = (grad * scale).masked_fill(inside, 0.0).sum_to_size(offset.shape)
        return grad_tensor, grad_scale, grad_offset, None, None
