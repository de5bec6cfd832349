"""ProductForm: a weighted layer as products of matrices, which is how algorithms look at its weight.

Each group of a layer computes ``output = patches @ rows.T``: a row holds the weights of one output channel,
a patch the inputs that they meet at one place of the output. A linear layer has one group, and its inputs for
patches. A transposed convolution is a convolution of its input with zeros between the elements.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

_Layer = Any  # a module of the row's class


@dataclass(frozen=True, kw_only=True)
class ProductForm:
    """How a layer of a row is written as products of matrices.

    Attributes:
        rows: Takes the layer and a tensor of its weight's shape to [groups, outputs of a group, length].
        of_rows: Takes the layer and such rows back to the weight's shape.
        patches: Takes the layer and its input to [groups, places, length].
    """

    rows: Callable[[_Layer, torch.Tensor], torch.Tensor]
    of_rows: Callable[[_Layer, torch.Tensor], torch.Tensor]
    patches: Callable[[_Layer, torch.Tensor], torch.Tensor]


def _linear_rows(layer: _Layer, weight: torch.Tensor) -> torch.Tensor:
    return weight[None]


def _linear_of_rows(layer: _Layer, rows: torch.Tensor) -> torch.Tensor:
    return rows[0]


def _linear_patches(layer: _Layer, x: torch.Tensor) -> torch.Tensor:
    return x.reshape(1, -1, x.shape[-1])


def _convolution_rows(layer: _Layer, weight: torch.Tensor) -> torch.Tensor:
    return weight.reshape(layer.groups, weight.shape[0] // layer.groups, -1)


def _convolution_of_rows(layer: _Layer, rows: torch.Tensor) -> torch.Tensor:
    return rows.reshape(layer.weight.shape)


def _convolution_patches(layer: _Layer, x: torch.Tensor) -> torch.Tensor:
    dims = len(layer.kernel_size)
    x = x if x.dim() > dims + 1 else x[None]  # a batch of one may lack its dimension
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    return _cut(padded, layer.groups, layer.kernel_size, layer.stride, layer.dilation)


def _transposed_rows(layer: _Layer, weight: torch.Tensor) -> torch.Tensor:
    outputs = weight.shape[1]
    grouped = weight.reshape(layer.groups, -1, outputs, math.prod(layer.kernel_size))
    return grouped.transpose(1, 2).reshape(layer.groups, outputs, -1)


def _transposed_of_rows(layer: _Layer, rows: torch.Tensor) -> torch.Tensor:
    groups, outputs, _ = rows.shape
    grouped = rows.reshape(groups, outputs, -1, math.prod(layer.kernel_size))
    return grouped.transpose(1, 2).reshape(layer.weight.shape)


def _transposed_patches(layer: _Layer, x: torch.Tensor) -> torch.Tensor:
    dims = len(layer.kernel_size)
    x = x if x.dim() > dims + 1 else x[None]
    sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], layer.stride, strict=True)]
    spread = x.new_zeros(*x.shape[:2], *sizes)
    places: Any = (..., *(slice(None, None, step) for step in layer.stride))
    spread[places] = x
    padding: list[int] = []
    for dim in reversed(range(dims)):
        around = layer.dilation[dim] * (layer.kernel_size[dim] - 1) - layer.padding[dim]
        padding += [around, around + layer.output_padding[dim]]
    patches = _cut(F.pad(spread, padding), layer.groups, layer.kernel_size, (1,) * dims, layer.dilation)
    by_kernel = patches.reshape(*patches.shape[:2], -1, *layer.kernel_size)
    return by_kernel.flip(tuple(range(-dims, 0))).reshape(patches.shape)


def _cut(
    x: torch.Tensor,
    groups: int,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> torch.Tensor:
    """Return patches [groups, batch * places, channels of a group * kernel] of x [batch, channels, ...]."""
    batch, channels, dims = x.shape[0], x.shape[1], len(kernel)
    for dim in range(dims):
        x = x.unfold(2 + dim, (kernel[dim] - 1) * dilation[dim] + 1, stride[dim])[..., :: dilation[dim]]
    x = x.reshape(batch, groups, channels // groups, *x.shape[2:])
    places, kernels = range(3, 3 + dims), range(3 + dims, 3 + 2 * dims)
    x = x.permute(1, 0, *places, 2, *kernels)
    return x.reshape(groups, -1, channels // groups * math.prod(kernel))


LINEAR = ProductForm(rows=_linear_rows, of_rows=_linear_of_rows, patches=_linear_patches)
CONVOLUTION = ProductForm(rows=_convolution_rows, of_rows=_convolution_of_rows, patches=_convolution_patches)
TRANSPOSED = ProductForm(rows=_transposed_rows, of_rows=_transposed_of_rows, patches=_transposed_patches)
