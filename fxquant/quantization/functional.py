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

from fxquant.errors import QuantizerError

_EPS_SHARE = 0.25  # a float type computes a grid when its eps is at most this share of one step of it


def quantize(
    tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int
) -> torch.Tensor:
    """Return the codes of ``tensor`` as whole numbers in [qmin, qmax], in the tensor's float type.

    Raises:
        QuantizerError: If that type cannot hold every code exactly.
    """
    if max(-qmin, qmax) > 2 / torch.finfo(tensor.dtype).eps:
        raise QuantizerError(
            f"{tensor.dtype} cannot hold every code of the grid [{qmin}, {qmax}].",
            remedy="Quantize a tensor of a wider float type, or use fewer bits.",
        )
    return _codes(tensor, scale, offset, qmin, qmax).to(tensor.dtype)


def quantize_to_integers(
    tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int, dtype: torch.dtype
) -> torch.Tensor:
    """Return the codes of ``tensor`` as an integer tensor of a dtype that holds [qmin, qmax]."""
    return _codes(tensor, scale, offset, qmin, qmax).to(dtype)


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
    if torch.is_grad_enabled() and any(t.requires_grad for t in (tensor, scale, offset)):
        output: torch.Tensor = _QuantizeDequantize.apply(  # type: ignore[no-untyped-call]  # torch is untyped here
            tensor, scale, offset, qmin, qmax
        )
        return output
    return _snap(tensor, scale, offset, qmin, qmax)


def _snap(
    tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int
) -> torch.Tensor:
    """Return ``clamp(round(x / s), qmin + o, qmax + o) * s``, computed in one fresh buffer.

    It equals quantizing and dequantizing: clamp(r - o, qmin, qmax) + o = clamp(r, qmin + o, qmax + o), all of
    them whole numbers.
    """
    dtype = compute_dtype(tensor.dtype, qmax - qmin)
    scale, offset = scale.to(dtype), offset.to(dtype)
    return _snapped_ratio(tensor.to(dtype), scale, offset, qmin, qmax).mul_(scale).to(tensor.dtype)


def _codes(
    tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int
) -> torch.Tensor:
    """Return codes in the float type they are computed in."""
    dtype = compute_dtype(tensor.dtype, qmax - qmin)
    scale, offset = scale.to(dtype), offset.to(dtype)
    return _snapped_ratio(tensor.to(dtype), scale, offset, qmin, qmax).sub_(offset)


def _snapped_ratio(
    tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int
) -> torch.Tensor:
    """Return ``clamp(round(x / s), qmin + o, qmax + o)`` in one fresh buffer."""
    ratio = torch.div(tensor, scale).round_()
    return ratio.clamp_min_(offset + qmin).clamp_max_(offset + qmax)  # half the cost of clamp_


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
    """quantize_dequantize with the gradients of the module docstring, summed in float32 at least."""

    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int
    ) -> torch.Tensor:
        ctx.save_for_backward(tensor, scale, offset)
        ctx.grid = qmin, qmax
        return _snap(tensor, scale, offset, qmin, qmax)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        tensor, scale, offset = ctx.saved_tensors
        qmin, qmax = ctx.grid
        dtype = compute_dtype(tensor.dtype, qmax - qmin)
        ratio = tensor.to(dtype) / scale.to(dtype)
        rounded = ratio.round()
        clamped = rounded.clamp(offset.to(dtype) + qmin, offset.to(dtype) + qmax)
        inside = rounded == clamped
        wide = torch.promote_types(grad.dtype, torch.float32)
        grad_tensor = grad_scale = grad_offset = None
        if ctx.needs_input_grad[0]:
            grad_tensor = grad * inside
        if ctx.needs_input_grad[1]:
            slope = torch.where(inside, rounded - ratio, clamped)
            grad_scale = (grad.to(wide) * slope).sum_to_size(scale.shape).to(scale.dtype)
        if ctx.needs_input_grad[2]:
            outside = (grad.to(wide) * scale).masked_fill(inside, 0.0)
            grad_offset = outside.sum_to_size(offset.shape).to(offset.dtype)
        return grad_tensor, grad_scale, grad_offset, None, None
