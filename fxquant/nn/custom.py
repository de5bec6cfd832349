"""Functional ops as modules, and their quantized forms, for hand-written quantized models."""

import torch
from torch import nn

from fxquant.nn.mixin import QuantizationMixin


class Add(nn.Module):
    """Elementwise sum of two tensors that broadcast."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return x + y."""
        return x + y


class Multiply(nn.Module):
    """Elementwise product of two tensors that broadcast."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return x * y."""
        return x * y


class MatMul(nn.Module):
    """Matrix product of two tensors, batched over leading dimensions."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return x @ y: [..., m, k] @ [..., k, n] -> [..., m, n]."""
        return x @ y


class Concat(nn.Module):
    """Concatenation of any number of tensors along one dimension."""

    def __init__(self, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Return the tensors joined along ``dim``."""
        return torch.cat(list(tensors), dim=self.dim)


@QuantizationMixin.implements(Add)
class QuantizedAdd(QuantizationMixin, Add):
    """Add with quantizers."""

    num_inputs = 2


@QuantizationMixin.implements(Multiply)
class QuantizedMultiply(QuantizationMixin, Multiply):
    """Multiply with quantizers."""

    num_inputs = 2


@QuantizationMixin.implements(MatMul)
class QuantizedMatMul(QuantizationMixin, MatMul):
    """MatMul with quantizers."""

    num_inputs = 2


@QuantizationMixin.implements(Concat)
class QuantizedConcat(QuantizationMixin, Concat):
    """Concat with quantizers; one input quantizer, to be extended to as many as there are tensors."""
