"""reduce_amax: the largest magnitudes of a tensor."""

from collections.abc import Sequence

import torch

from fxquant.errors import OptionError


def reduce_amax(
    input: torch.Tensor, axis: int | Sequence[int] | None = None, keepdims: bool = True
) -> torch.Tensor:
    """Return the largest magnitude over some axes; what gradients flow are torch's.

    Args:
        input: Tensor of any shape, not empty.
        axis: Axes to reduce, unlike the ``axis`` of a descriptor, which names those to keep; None for all.
        keepdims: Whether reduced axes stay with size 1. A single number has no axes either way.

    Raises:
        OptionError: If there are more axes to reduce than the tensor has.
    """
    if axis is None:
        low, high = input.min(), input.max()  # not aminmax, which torch.onnx cannot write
        return torch.maximum(low.abs(), high.abs())
    axes = [axis] if isinstance(axis, int) else list(axis)
    if len(axes) > input.dim():
        raise OptionError(f"Cannot reduce more axes than input's dim: {tuple(axes)} of {input.dim()}.")
    if not axes:
        magnitude = input.abs()
    else:
        low, high = input.amin(axes, keepdims), input.amax(axes, keepdims)
        magnitude = torch.maximum(low.abs(), high.abs())
    return magnitude.squeeze() if magnitude.numel() == 1 else magnitude


def kept_amax(input: torch.Tensor, axis: int | Sequence[int] | None) -> torch.Tensor:
    """Return the largest magnitudes along the axes that a descriptor keeps; the others stay with size 1."""
    if axis is None:
        return reduce_amax(input)
    kept = {index % input.dim() for index in ([axis] if isinstance(axis, int) else axis)}
    return reduce_amax(input, [index for index in range(input.dim()) if index not in kept])
