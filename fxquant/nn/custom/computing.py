"""Ops that compute with operands that other modules hold as parameters, as modules; and rotary embedding."""

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.nn.custom.forms import Multiply


class DynamicConv2d(nn.Module):
    """A convolution whose weight and bias are inputs."""

    def __init__(
        self,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return conv2d(x, weight, bias); weight: [out, in / groups, kh, kw]."""
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


class DynamicLinear(nn.Module):
    """A linear layer whose weight and bias are inputs."""

    def forward(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return linear(x, weight, bias); weight: [out, in]."""
        return F.linear(x, weight, bias)


class BatchNorm(nn.Module):
    """A batch norm whose statistics and affine parameters are inputs."""

    def forward(
        self,
        input: torch.Tensor,
        running_mean: torch.Tensor,
        running_var: torch.Tensor,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        """Return batch_norm of the input; no gradient goes to the statistics."""
        mean, variance = running_mean.detach(), running_var.detach()
        return F.batch_norm(input, mean, variance, weight, bias, training, momentum, eps)


class CustomSiLU(nn.Module):
    """x * sigmoid(x) in two modules, each of which can be quantized."""

    def __init__(self) -> None:
        super().__init__()
        self.sigmoid = nn.Sigmoid()
        self.mul = Multiply()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x * sigmoid(x)."""
        product: torch.Tensor = self.mul(x, self.sigmoid(x))
        return product


class RotaryEmbedding(nn.Module):
    """The first elements of each head rotated by the angle of its position (RoFormer, section 3.4).

    Args:
        interleaved: Whether a rotated pair is two neighbours; if not, one from each half.
        rotary_embedding_dim: How many elements of a head are rotated.
        head_size: How many elements a head has.
    """

    def __init__(self, interleaved: bool, rotary_embedding_dim: int, head_size: int) -> None:
        super().__init__()
        self.interleaved = interleaved
        self.rotary_embedding_dim = rotary_embedding_dim
        self.head_size = head_size

    def forward(
        self,
        x: torch.Tensor,
        cos_cache: torch.Tensor,
        sin_cache: torch.Tensor,
        position_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return x rotated; x: [batch, heads, length, head], caches: [batch, length, rotated / 2].

        With position ids, [batch, length], the caches are [positions, rotated / 2].
        """
        rotated, kept = x[..., : self.rotary_embedding_dim], x[..., self.rotary_embedding_dim :]
        if position_ids is not None:
            cos_cache, sin_cache = cos_cache[position_ids], sin_cache[position_ids]
        cos, sin = cos_cache.unsqueeze(1), sin_cache.unsqueeze(1)
        if self.interleaved:
            first, second = rotated[..., 0::2], rotated[..., 1::2]
        else:
            first, second = rotated.chunk(2, dim=-1)
        pair = (cos * first - sin * second, sin * first + cos * second)
        joined = torch.stack(pair, dim=-1).flatten(-2) if self.interleaved else torch.cat(pair, dim=-1)
        return torch.cat((joined, kept), dim=-1)
