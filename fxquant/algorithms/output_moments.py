"""OutputMoments: what the channels of a layer's output are in the float and in the quantized model."""

from dataclasses import dataclass
from functools import reduce

import torch

from fxquant.algorithms.channel_layers import ChannelLayer
from fxquant.algorithms.streams import Stage


@dataclass(frozen=True, kw_only=True)
class OutputMoments:
    """Means over all batches and positions, by channel, in float64; each [out].

    Attributes:
        mean: Of the float output f.
        quantized_mean: Of the quantized output q.
        variance: Of f.
        quantized_variance: Of q.
        covariance: Of f and q.
    """

    mean: torch.Tensor
    quantized_mean: torch.Tensor
    variance: torch.Tensor
    quantized_variance: torch.Tensor
    covariance: torch.Tensor

    def error(self, factor: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """Return the mean of (factor * q + shift - f)^2 by channel."""
        offset = factor * self.quantized_mean + shift - self.mean
        spread = factor.square() * self.quantized_variance - 2 * factor * self.covariance + self.variance
        return offset.square() + spread.clamp(min=0)

    def share(self, error: torch.Tensor) -> float:
        """Return an error of all channels as a share of the power of f."""
        power = float((self.variance + self.mean.square()).sum())
        return float(error.sum()) / power if power else 0.0


def output_moments(stage: Stage, layer: ChannelLayer) -> OutputMoments:
    """Return the moments of what a layer of a block gives, from all batches."""
    node = layer.calls[0]
    sums: list[torch.Tensor] = []
    count = 0
    pairs = zip(stage.values(node, is_quantized=False), stage.values(node, is_quantized=True), strict=True)
    for values in pairs:
        f, q = (torch.movedim(v.detach(), layer.axis, -1).flatten(0, -2).double() for v in values)
        count += f.shape[0]
        sums.append(torch.stack([f.sum(0), q.sum(0), (f * f).sum(0), (q * q).sum(0), (f * q).sum(0)]))
    f, q, ff, qq, fq = reduce(torch.add, sums) / max(count, 1)
    return OutputMoments(
        mean=f,
        quantized_mean=q,
        variance=(ff - f * f).clamp(min=0),
        quantized_variance=(qq - q * q).clamp(min=0),
        covariance=fq - f * q,
    )
