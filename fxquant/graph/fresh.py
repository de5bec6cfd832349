"""Fresh inputs: what a captured graph is tried on before capture returns."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fxquant.graph.record import Example


def rows_of(example: Example) -> int:
    """Return the batch size: the first dimension of the first tensor that has dimensions; 0 for none."""
    return next((tensor.shape[0] for tensor in example.tensors() if tensor.dim()), 0)


def of_other_values(example: Example) -> Example:
    """Return inputs of the same shapes and types with other values in the same range."""
    return mapped(example, _shuffled)


def of_other_batch(example: Example, rows: int) -> Example:
    """Return inputs of another batch size; rows that the example has come first, then fresh ones."""
    size = rows_of(example)

    def other(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.dim() or tensor.shape[0] != size:
            return tensor
        repeats = -(-rows // size)
        return torch.cat([tensor, *[_shuffled(tensor)] * (repeats - 1)])[:rows]

    return mapped(example, other)


def of_other_sizes(example: Example) -> Example | None:
    """Return inputs of half the length, height and width; None where they have none.

    Images are [batch, channels, *sizes], sequences [batch, length, features], of integers [batch, length].
    """
    halved: dict[int, int] = {}
    for tensor in example.tensors():
        halved |= {
            size: -(-size // 2) for size in (tensor.shape[dim] for dim in _size_dims(tensor)) if size > 1
        }

    def other(tensor: torch.Tensor) -> torch.Tensor:
        for dim in _size_dims(tensor):
            tensor = tensor.narrow(dim, 0, halved.get(tensor.shape[dim], tensor.shape[dim]))
        return tensor.contiguous()

    return mapped(example, other) if halved else None


def _size_dims(tensor: torch.Tensor) -> range:
    if tensor.dim() >= 4:
        return range(2, tensor.dim())
    is_sequence = tensor.dim() == 3 or (tensor.dim() == 2 and not tensor.is_floating_point())
    return range(1, 2) if is_sequence else range(0)


def mapped(example: Example, function: Callable[[torch.Tensor], torch.Tensor]) -> Example:
    """Return inputs with a function applied to each tensor, inside containers too."""

    def apply(value: Any) -> Any:
        return function(value) if isinstance(value, torch.Tensor) else value

    return Example(args=pytree.tree_map(apply, example.args), kwargs=pytree.tree_map(apply, example.kwargs))


def _shuffled(tensor: torch.Tensor) -> torch.Tensor:
    moved = tensor.detach().flatten().roll(1).reshape(tensor.shape)
    if not tensor.is_floating_point() or not tensor.numel():
        return moved
    spread = tensor.detach().float().std(correction=0)
    generator = torch.Generator(tensor.device).manual_seed(0)
    noise = torch.rand(tensor.shape, generator=generator, device=tensor.device)
    return moved + (0.1 * noise * torch.where(spread > 0, spread, 1.0)).to(tensor.dtype)
