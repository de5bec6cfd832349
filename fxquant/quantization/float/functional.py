"""The arithmetic of float quantization, straight through the rounding.

With s the scale, R the rounding to a float type (``rounding``), m the largest number of the type and g the
gradient of the output::

    x_q  = R(clamp(x / s, -m, m))       dx = g / s   where |x / s| <= m, else 0
    x_dq = x_q * s                      dx = g       where |x / s| <= m, else 0

Scales get no gradient: they are found, not trained. They broadcast against the tensor, or serve its blocks
(``blocks``). Values are computed in float32 at least, a piece of a large tensor at a time (``pieces``).
"""

from typing import Any

import torch

from fxquant.quantization.blocks import BlockSize, blockwise, check_scale, in_blocks, per_block
from fxquant.quantization.float.float_type import FloatType
from fxquant.quantization.float.rounding import compute_dtype, round_to_type_
from fxquant.quantization.gradients import needs_gradient
from fxquant.quantization.pieces import pieces

_REACH = 1 + 2**-22  # x / s of the very value that s was found from may come out above the largest number


def quantize(
    tensor: torch.Tensor, scale: torch.Tensor, float_type: FloatType, block_size: BlockSize = None
) -> torch.Tensor:
    """Return the numbers of a float type that stand for ``tensor``, in its float type; differentiable.

    Arguments and errors as in ``quantize_dequantize``.
    """
    check_scale(tensor.shape, scale.shape, block_size)
    wide = compute_dtype(tensor.dtype, float_type)
    ratio = blockwise(torch.div, tensor.to(wide), scale.detach().to(wide), block_size)
    return _rounded(ratio, None, float_type).to(tensor.dtype)


def dequantize(codes: torch.Tensor, scale: torch.Tensor, block_size: BlockSize = None) -> torch.Tensor:
    """Return ``codes * scale``, in the float type of codes; in that of scale for codes of 8 bits.

    Raises:
        QuantizerError: If the scale does not fit the codes.
    """
    check_scale(codes.shape, scale.shape, block_size)
    dtype = codes.dtype if codes.is_floating_point() and codes.dtype.itemsize > 1 else scale.dtype
    return blockwise(torch.mul, codes.to(dtype), scale.detach().to(dtype), block_size)


def quantize_dequantize(
    tensor: torch.Tensor,
    scale: torch.Tensor,
    float_type: FloatType,
    block_size: BlockSize = None,
    *,
    has_unit_scale: bool = False,
) -> torch.Tensor:
    """Return the values nearest to ``tensor`` on the scaled grid of a float type; differentiable.

    Args:
        tensor: Float tensor of any shape; the result has its type. Integer and bool tensors are returned as
            they are.
        scale: Real size of 1 in the float type, positive; broadcastable against tensor, or one entry per
            block.
        float_type: The type to simulate.
        block_size: Block sizes by axis, -1 for what is left; None without blocks.
        has_unit_scale: Whether scale is known to be 1, so that it need not be looked at.

    Raises:
        QuantizerError: If the scale does not fit the tensor, or the type is not known.
    """
    if not tensor.is_floating_point():
        return tensor
    if has_unit_scale:
        return _rounded(tensor, None, float_type)
    if not torch.compiler.is_compiling():
        check_scale(tensor.shape, scale.shape, block_size)
    scale, blocks = scale.detach(), tensor
    if block_size:
        blocks, scale = in_blocks(tensor, scale.shape, block_size), per_block(scale)
    return _rounded(blocks, scale, float_type).reshape(tensor.shape)


def _rounded(tensor: torch.Tensor, scale: torch.Tensor | None, float_type: FloatType) -> torch.Tensor:
    """Return values on the grid of a float type; scale broadcasts, None for 1."""
    if needs_gradient(tensor):
        output: torch.Tensor = _StraightThrough.apply(tensor, scale, float_type)  # type: ignore[no-untyped-call]  # torch is untyped here
        return output
    return _snap(tensor, scale, float_type, None)


class _StraightThrough(torch.autograd.Function):
    """Rounding whose gradient passes where the type reaches; keeps one byte per element for it."""

    @staticmethod
    def forward(
        ctx: Any, tensor: torch.Tensor, scale: torch.Tensor | None, float_type: FloatType
    ) -> torch.Tensor:
        mask = torch.empty_like(tensor, dtype=torch.int8)  # turns into floats faster than bool does
        ctx.save_for_backward(mask)
        return _snap(tensor, scale, float_type, mask)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad,) = grads
        return ctx.saved_tensors[0].to(grad.dtype).mul_(grad), None, None


def _snap(
    tensor: torch.Tensor, scale: torch.Tensor | None, float_type: FloatType, mask: torch.Tensor | None
) -> torch.Tensor:
    """Return values on the grid; write into mask where it reaches them, 1 or 0, unless mask is None."""
    wide = compute_dtype(tensor.dtype, float_type)
    output = torch.empty_like(tensor)
    factor = tensor.new_ones((), dtype=wide) if scale is None else scale.to(wide)
    for x, y, is_inside, s, _ in pieces(tensor, output, output if mask is None else mask, factor, factor):
        real = y if y.dtype == wide else torch.empty_like(y, dtype=wide)
        real.copy_(x) if scale is None else torch.div(x.to(wide), s, out=real)
        if mask is not None:
            is_inside.copy_(real.abs().le_(float_type.max * _REACH))
        round_to_type_(real, float_type)
        if scale is not None:
            real.mul_(s)
        if real is not y:
            y.copy_(real)
    return output
