"""Rows: which elements of a tensor share one range.

A range shape of n elements (with or without blocks, see ``fxquant.quantization.blocks``) cuts a tensor into n
groups of as many elements each. Row i holds the elements of range i, ranges counted in row-major order.
"""

import math

import torch

from fxquant.quantization.blocks import BlockSize, check_scale, in_blocks


def reduce_to_shape(
    tensor: torch.Tensor, shape: tuple[int, ...], block_size: BlockSize = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the minimum and the maximum of each row, both of ``shape``; NaN where a row holds one.

    Reads the tensor once where there is one range, twice otherwise (``torch.aminmax`` along an axis costs
    several times what ``amin`` and ``amax`` cost together), and copies nothing.

    Raises:
        QuantizerError: If the shape and block size do not fit the tensor.
    """
    view, kept = _with_kept_axes(tensor, shape, block_size)
    if not kept:
        minimum, maximum = torch.aminmax(tensor)
    else:
        reduced = [axis for axis in range(view.dim()) if axis not in kept]
        minimum, maximum = (
            (view.amin(reduced), view.amax(reduced)) if reduced else (view.clone(), view.clone())
        )
    return minimum.reshape(shape), maximum.reshape(shape)


def as_rows(tensor: torch.Tensor, shape: tuple[int, ...], block_size: BlockSize = None) -> torch.Tensor:
    """Return the tensor as [n, elements of a range]: a view where strides allow it, else a copy.

    Raises:
        QuantizerError: If the shape and block size do not fit the tensor.
    """
    view, kept = _with_kept_axes(tensor, shape, block_size)
    reduced = [axis for axis in range(view.dim()) if axis not in kept]
    return view.permute([*kept, *reduced]).reshape(math.prod(shape), -1)


def _with_kept_axes(
    tensor: torch.Tensor, shape: tuple[int, ...], block_size: BlockSize
) -> tuple[torch.Tensor, list[int]]:
    """Return the tensor with an axis for each axis of ``shape``, and those of them that are longer than 1."""
    check_scale(tensor.shape, shape, block_size)
    if block_size:
        blocks = in_blocks(tensor, shape, block_size)
        return blocks, [1 + 2 * axis for axis, size in enumerate(shape) if size > 1]
    lead = tensor.dim() - len(shape)
    return tensor, [lead + axis for axis, size in enumerate(shape) if size > 1]
