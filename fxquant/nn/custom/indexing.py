"""Ops that pick or place values by index, as modules; they are those of ONNX."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class CustomGather(nn.Module):
    """Slices along one axis by index, as ONNX Gather: negative indices count from the end."""

    def forward(self, data: torch.Tensor, indices: torch.Tensor, axis: int = 0) -> torch.Tensor:
        """Return data with its axis replaced by the dimensions of the indices."""
        length = data.shape[axis]
        chosen = torch.where(indices < 0, indices + length, indices)
        axis = axis % data.dim()
        shape = data.shape[:axis] + indices.shape + data.shape[axis + 1 :]
        return torch.index_select(data, axis, chosen.flatten()).reshape(shape)


class GatherNd(nn.Module):
    """Slices by tuples of indices, as ONNX GatherND.

    Args:
        batch_dim: How many leading dimensions data and indices have in common.
    """

    def __init__(self, batch_dim: int) -> None:
        super().__init__()
        self.batch_dims = batch_dim

    def forward(self, data: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        """Return one slice for each tuple, the tuples being the last dimension of the indices."""
        batch = indices.shape[: self.batch_dims]
        places = [
            torch.arange(size, device=data.device).reshape(
                [-1 if axis == dim else 1 for axis in range(indices.dim() - 1)]
            )
            for dim, size in enumerate(batch)
        ]
        coordinates = [*places, *indices.unbind(-1)]
        return data[tuple(coordinates)]


class ScatterND(nn.Module):
    """A copy of a tensor with slices written at tuples of indices, as ONNX ScatterND.

    Args:
        reduction: 0 to overwrite, 1 to add, 2 to multiply.
    """

    def __init__(self, reduction: int = 0) -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, data: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
        """Return the written copy; the tuples are the last dimension of the indices."""
        output = data.clone()
        places = indices.long().unbind(-1)
        before = output[places]
        written = updates.reshape(before.shape)
        if self.reduction == 1:
            written = before + written
        elif self.reduction == 2:
            written = before * written
        output[places] = written
        return output


class ScatterElements(nn.Module):
    """A copy of a tensor with elements written by index along one dimension, as ONNX ScatterElements.

    Args:
        dim: The dimension that the indices count along.
        reduce: How to combine with what was there, as torch.Tensor.scatter_reduce has it; None to overwrite.
    """

    def __init__(self, dim: int, reduce: str | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.reduce = reduce

    def forward(self, x: Any, index: Any, src: Any) -> torch.Tensor:
        """Return the written copy; lists are taken as tensors."""
        x, index, src = as_tensors(x, index, src)
        written: torch.Tensor
        if self.reduce is None:
            written = x.scatter(self.dim, index, src)
        elif isinstance(src, torch.Tensor):
            written = x.scatter_reduce(self.dim, index, src, self.reduce)
        else:
            written = x.scatter(self.dim, index, src, reduce=self.reduce)
        return written


class OneHot(nn.Module):
    """A vector for each index, that is on at the index and off elsewhere, as ONNX OneHot."""

    def __init__(self, num_classes: int, off_value: float, on_value: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.off_value = off_value
        self.on_value = on_value

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return a tensor with one dimension more, [..., num_classes]."""
        output = F.one_hot(inputs, self.num_classes)
        if (self.off_value, self.on_value) == (0, 1):
            return output
        return output * (self.on_value - self.off_value) + self.off_value


def as_tensors(x: Any, index: Any, src: Any) -> tuple[Any, Any, Any]:
    """Return the operands of a scatter with lists as tensors."""
    index = torch.tensor(index, dtype=torch.int64) if isinstance(index, list) else index
    src = torch.tensor(src) if isinstance(src, list) else src
    x = torch.tensor(x, dtype=src.dtype) if isinstance(x, list) else x
    return x, index, src
