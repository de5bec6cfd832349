"""Derivatives of affine quantization, straight through the rounding.

With g the gradient of the output and inside where the code was not clamped (AIMET's definitions; for the
scale of QuantizeDequantize, LSQ: Esser et al. 2020, "Learned Step Size Quantization", section 2.1)::

    QuantizeDequantize   dx = g * inside
                         ds = g * (round(x/s) - x/s  inside;  clamp(round(x/s), qmin + o, qmax + o)  outside)
                         do = g * (0                 inside;  s                                      outside)
    Quantize             dx = g * inside / s         ds = -g * inside * x / s^2        do = -g * inside
    Dequantize           dx = g * s                  ds = g * (x_q + o)                do = g * s

x/s means x/s - h where there is a zero-point shift h. Gradients of scale and offset are summed over what
each of their entries serves, in float32 at least.

Masks are floats here: arithmetic in place costs a quarter of a copy of the tensor, but a comparison that
writes booleans costs more than one copy, and ``where`` on a mixed mask up to seven.
"""

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from fxquant.quantization.pieces import joined, pieces, summed

_Gradients = tuple[torch.Tensor | None, ...]


def needs_gradient(*tensors: torch.Tensor) -> bool:
    """Whether autograd wants to know what becomes of any of the tensors; a trace is written in plain ops."""
    if not torch.is_grad_enabled():
        return False
    return not is_jit_traced() and any(tensor.requires_grad for tensor in tensors)


def is_jit_traced() -> bool:
    """Whether torch.jit.trace, or the older ONNX exporter, is writing down what runs."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]  # untyped there


def is_watched() -> bool:
    """Whether a mode sees every op that runs, as fake tensors, tracers and counters of operations do."""
    return bool(torch._C._len_torch_dispatch_stack())


class QuantizeDequantize(torch.autograd.Function):
    """quantize_dequantize of a tensor, and a scale and offset that broadcast, computed in the tensor's type.

    For a trained scale or offset it keeps the input and nothing else; otherwise one byte per element.
    """

    @staticmethod
    def snap(
        tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int, shift: float
    ) -> torch.Tensor:
        """Return the nearest values on the grid, computed in one fresh buffer."""
        return QuantizeDequantize._snap_ratio(torch.div(tensor, scale), scale, offset, qmin, qmax, shift)

    @staticmethod
    def snap_(
        tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int, shift: float
    ) -> None:
        """Write the nearest values on the grid into the tensor: the same arithmetic as ``snap``."""
        QuantizeDequantize._snap_ratio(tensor.div_(scale), scale, offset, qmin, qmax, shift)

    @staticmethod
    def _snap_ratio(
        ratio: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int, shift: float
    ) -> torch.Tensor:
        """Make grid values of ratios x / s, in place.

        ``clamp(r, qmin + o, qmax + o) = clamp(r - o, qmin, qmax) + o``, all of them whole numbers, saves
        subtracting the offset and adding it again.
        """
        rounded = (ratio.sub_(shift) if shift else ratio).round_()
        rounded.clamp_min_(offset + qmin).clamp_max_(offset + qmax)  # half the cost of clamp_
        return (rounded.add_(shift) if shift else rounded).mul_(scale)

    @staticmethod
    def forward(
        ctx: Any,
        tensor: torch.Tensor,
        scale: torch.Tensor,
        offset: torch.Tensor,
        qmin: int,
        qmax: int,
        shift: float,
    ) -> torch.Tensor:
        ctx.grid = qmin, qmax, shift
        ctx.dtypes = scale.dtype, offset.dtype
        scale, offset = scale.to(tensor.dtype), offset.to(tensor.dtype)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            ctx.save_for_backward(tensor, scale, offset)
            return QuantizeDequantize.snap(tensor, scale, offset, qmin, qmax, shift)
        output = torch.empty_like(tensor)
        mask = torch.empty_like(tensor, dtype=torch.int8)  # turns into floats faster than bool does
        for x, y, is_inside, s, o in pieces(tensor, output, mask, scale, offset):
            rounded = _ratio(x, s, shift).round_()
            y.copy_(rounded).clamp_min_(o + qmin).clamp_max_(o + qmax)
            is_inside.copy_(rounded.eq_(y))
            (y.add_(shift) if shift else y).mul_(s)
        ctx.save_for_backward(mask)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> _Gradients:
        (grad,) = grads
        saved = ctx.saved_tensors  # to be read once: checkpointing computes them here
        if len(saved) == 1:
            return saved[0].to(grad.dtype).mul_(grad), None, None, None, None, None
        tensor, scale, offset = saved
        qmin, qmax, shift = ctx.grid
        _, trains_scale, trains_offset, *_ = ctx.needs_input_grad
        grad_tensor = torch.empty_like(tensor)
        scale_sums, offset_sums = [], []
        for x, g, dx, s, o in pieces(tensor, grad, grad_tensor, scale, offset):
            low, high = o + qmin, o + qmax
            ratio = _ratio(x, s, shift).clamp_min_(low - 1).clamp_max_(high + 1)  # finite, and as outside
            rounded = ratio.round()
            clamped = rounded.clamp_min(low).clamp_max_(high)
            error = ratio.neg_().add_(rounded)
            inside = rounded.eq_(clamped)
            dx.copy_(g).mul_(inside)
            if trains_scale:
                scale_sums.append(summed(clamped.lerp_(error, inside).mul_(g), s))
            if trains_offset:
                offset_sums.append(summed(error.copy_(g).sub_(dx).mul_(s), o))
        grad_scale = joined(scale_sums, scale.shape).to(ctx.dtypes[0]) if trains_scale else None
        grad_offset = joined(offset_sums, offset.shape).to(ctx.dtypes[1]) if trains_offset else None
        return (grad_tensor if ctx.needs_input_grad[0] else None), grad_scale, grad_offset, None, None, None


class Quantize(torch.autograd.Function):
    """quantize of a tensor, and a scale and offset that broadcast, computed in the tensor's type."""

    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, qmin: int, qmax: int
    ) -> torch.Tensor:
        ctx.dtypes = scale.dtype, offset.dtype
        scale, offset = scale.to(tensor.dtype), offset.to(tensor.dtype)
        codes = torch.div(tensor, scale).round_().sub_(offset)
        inside = torch.ge(codes, qmin).logical_and_(torch.le(codes, qmax))
        ctx.save_for_backward(tensor if ctx.needs_input_grad[1] else None, scale, offset, inside)
        return codes.clamp_(qmin, qmax)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> _Gradients:
        tensor, scale, offset, inside = ctx.saved_tensors
        grad = grads[0] * inside
        grad_tensor = grad_scale = grad_offset = None
        if ctx.needs_input_grad[0]:
            grad_tensor = grad / scale
        if ctx.needs_input_grad[1]:
            grad_scale = summed(-(grad / scale) * (tensor / scale), scale).to(ctx.dtypes[0])
        if ctx.needs_input_grad[2]:
            grad_offset = summed(-grad, offset).to(ctx.dtypes[1])
        return grad_tensor, grad_scale, grad_offset, None, None


class Dequantize(torch.autograd.Function):
    """dequantize of codes, and a scale and offset that broadcast, computed in the codes' type."""

    @staticmethod
    def forward(ctx: Any, codes: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        ctx.dtypes = scale.dtype, offset.dtype
        scale, offset = scale.to(codes.dtype), offset.to(codes.dtype)
        ctx.save_for_backward(codes if ctx.needs_input_grad[1] else None, scale, offset)
        return torch.add(codes, offset).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: torch.Tensor) -> _Gradients:
        (grad,) = grads
        codes, scale, offset = ctx.saved_tensors
        grad_codes = grad_scale = grad_offset = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[2]:
            scaled = grad * scale
            grad_codes = scaled if ctx.needs_input_grad[0] else None
            grad_offset = summed(scaled, offset).to(ctx.dtypes[1]) if ctx.needs_input_grad[2] else None
        if ctx.needs_input_grad[1]:
            grad_scale = summed(grad * (codes + offset), scale).to(ctx.dtypes[0])
        return grad_codes, grad_scale, grad_offset


def _ratio(tensor: torch.Tensor, scale: torch.Tensor, shift: float) -> torch.Tensor:
    """Return x / s - h in a fresh buffer."""
    ratio = torch.div(tensor, scale)
    return ratio.sub_(shift) if shift else ratio
