"""Normalization and rotation of the last dimensions, as modules with weights of their own."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class RmsNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight + bias, the mean over some axes; computed in float32.

    Args:
        input_shape: Shape of the inputs, which gives the weight its own.
        axes: Which axes to average over.
        epsilon: Keeps the quotient finite.
    """

    def __init__(self, input_shape: list[int], axes: list[int], epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.axes = axes
        shape = tuple(input_shape[axis] for axis in axes)
        self.weight = nn.Parameter(torch.ones(shape))
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalized tensor, in the type of the input."""
        wide = x.float()
        root = torch.sqrt((wide * wide).mean(dim=self.axes, keepdim=True) + self.epsilon)
        return (wide / root * self.weight + self.bias).to(x.dtype)


class HadamardRotation(nn.Module):
    """The last dimension, in groups of the largest power of two that divides it, times a Hadamard matrix.

    Args:
        size: Length of the last dimension.
        scale: Factor of the result; None for the one that keeps lengths.
    """

    hadamard: torch.Tensor

    def __init__(self, size: int, scale: float | None = None) -> None:
        super().__init__()
        rank = size & -size  # the largest power of two that divides it
        matrix = torch.ones(1, 1)
        while matrix.shape[0] < rank:  # Sylvester's construction
            matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
        self.register_buffer("hadamard", matrix)
        self.scale = scale or 1 / math.sqrt(rank)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rotated tensor."""
        grouped = x.reshape(*x.shape[:-1], -1, self.hadamard.shape[0])
        return (F.linear(grouped, self.hadamard) * self.scale).flatten(-2)
