"""Ops that move values, as modules."""

from typing import Any

import torch
from torch import nn


class StridedSlice(nn.Module):
    """A part of a tensor, by ranges as Python's slice takes them."""

    def forward(self, *args: Any) -> torch.Tensor:
        """Return args[0][ranges], args[1] being one (start, stop, step) for each dimension."""
        tensor, ranges = args
        part: torch.Tensor = tensor[tuple(slice(*one) for one in ranges)]
        return part


class ChannelShuffle(nn.Module):
    """Channels dealt out: the first of each group, then the second of each, and so on."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        """Return the shuffled tensor; input and output are [n, channels, height, width]."""
        n, channels, height, width = args[0].shape
        dealt = args[0].reshape(n, self.groups, channels // self.groups, height, width).transpose(1, 2)
        return dealt.reshape(n, channels, height, width)


class DepthToSpaceCRDMode(nn.Module):
    """Channels turned into blocks of pixels, as ONNX DepthToSpace does in mode CRD.

    Args:
        block_size: Height and width of a block.
    """

    def __init__(self, block_size: list[int]) -> None:
        super().__init__()
        self.block_size_h, self.block_size_w = block_size[0], block_size[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [n, c / (bh * bw), h * bh, w * bw] for [n, c, h, w]."""
        n, channels, height, width = x.shape
        rows, columns = self.block_size_h, self.block_size_w
        kept = channels // (rows * columns)
        blocks = x.reshape(n, kept, rows, columns, height, width).permute(0, 1, 4, 2, 5, 3)
        return blocks.reshape(n, kept, height * rows, width * columns)


class DepthToSpaceDCRMode(nn.Module):
    """Channels turned into square blocks of pixels, as ONNX DepthToSpace does in mode DCR."""

    def __init__(self, block_size: int) -> None:
        super().__init__()
        self.block_size = block_size

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [n, c / b^2, h * b, w * b] for [n, c, h, w]."""
        n, channels, height, width = x.shape
        side = self.block_size
        kept = channels // side**2
        blocks = x.reshape(n, side, side, kept, height, width).permute(0, 3, 4, 1, 5, 2)
        return blocks.reshape(n, kept, height * side, width * side)


class NullRequant(nn.Module):
    """A tensor as it is, on its way from one quantizer to another; the shape given is not looked at."""

    def forward(self, input: torch.Tensor, shape: Any) -> torch.Tensor:
        """Return the input."""
        return input.reshape(input.shape)


class Cast(nn.Module):
    """A tensor as another dtype."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the tensor cast."""
        return x.type(self.dtype)
