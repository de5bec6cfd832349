"""Blocks: cutting a tensor so that one scale serves a block of it.

A scale of shape [s_0, ..., s_n] with block size [b_0, ..., b_n] serves a tensor of shape
[s_0 * b_0, ..., s_n * b_n]. -1 stands for "as large as it must be": the tensor's size over the scale's. Axes
of the scale beyond the block sizes given, and axes of the tensor beyond the scale, broadcast as in numpy.
"""

import math
from collections.abc import Callable, Sequence
from itertools import chain

import torch

from fxquant.errors import QuantizerError

BlockSize = Sequence[int] | None
"""Block sizes by axis, aligned to the last axis; None where one scale serves whole channels or the tensor."""


def is_expandable(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Whether a tensor of one shape can be expanded to another."""
    if len(shape) > len(target):
        return False
    return all(size in (1, wanted) for size, wanted in zip(reversed(shape), reversed(target), strict=False))


def is_dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor's elements lie side by side in memory, in whatever order of its axes."""
    expected = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def check_scale(shape: Sequence[int], scale_shape: Sequence[int], block_size: BlockSize) -> None:
    """Check that a scale fits a tensor.

    Raises:
        QuantizerError: If the scale does not broadcast, or its blocks do not cover the tensor exactly.
    """
    if not block_size:
        if not is_expandable(scale_shape, shape):
            raise QuantizerError(
                f"Scale of shape {tuple(scale_shape)} cannot be expanded like input tensor of shape "
                f"{tuple(shape)}.",
                remedy="Give the quantizer a shape that broadcasts against the tensor, or a block_size.",
            )
        return
    if len(block_size) > len(scale_shape) or len(scale_shape) > len(shape):
        raise QuantizerError(
            f"Block size {tuple(block_size)}, scale shape {tuple(scale_shape)} and tensor shape "
            f"{tuple(shape)} do not have matching ranks.",
            remedy="Give one block size per axis of the scale, and the scale no more axes than the tensor.",
        )
    concrete = concrete_block_size(shape, scale_shape, block_size)
    tail = shape[len(shape) - len(scale_shape) :]
    if any(s * b != t for s, b, t in zip(scale_shape, concrete, tail, strict=True)):
        raise QuantizerError(
            f"Each tensor dimension size for tensor shape {tuple(shape)} must equal the corresponding scale "
            f"dimension size * block size for scale shape {tuple(scale_shape)} and block size "
            f"{tuple(block_size)}.",
            remedy="Choose block sizes that divide the tensor; -1 takes what is left.",
        )


def concrete_block_size(
    shape: Sequence[int], scale_shape: Sequence[int], block_size: Sequence[int]
) -> tuple[int, ...]:
    """Return one block size per axis of the scale, with -1 replaced by the size that fits the tensor."""
    missing = len(scale_shape) - len(block_size)
    full = [1 if size > 1 else -1 for size in scale_shape[:missing]] + [int(size) for size in block_size]
    tail = shape[len(shape) - len(scale_shape) :]
    return tuple(t // max(s, 1) if b == -1 else b for t, s, b in zip(tail, scale_shape, full, strict=True))


def in_blocks(tensor: torch.Tensor, scale_shape: Sequence[int], block_size: Sequence[int]) -> torch.Tensor:
    """Return the tensor as [rest, s_0, b_0, s_1, b_1, ...]: a view where strides allow it."""
    concrete = concrete_block_size(tensor.shape, scale_shape, block_size)
    lead = math.prod(tensor.shape[: tensor.dim() - len(concrete)])
    return tensor.reshape(lead, *chain.from_iterable(zip(scale_shape, concrete, strict=True)))


def per_block(scale: torch.Tensor) -> torch.Tensor:
    """Return scale as [s_0, 1, s_1, 1, ...], which broadcasts against ``in_blocks``."""
    return scale.reshape([size for axis in scale.shape for size in (axis, 1)])


def blockwise(
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    tensor: torch.Tensor,
    scale: torch.Tensor,
    block_size: BlockSize,
) -> torch.Tensor:
    """Return a function of each element and the scale of its block, in the tensor's shape."""
    if not block_size:
        return function(tensor, scale)
    blocks = in_blocks(tensor, scale.shape, block_size)
    return function(blocks, per_block(scale)).reshape(tensor.shape)
