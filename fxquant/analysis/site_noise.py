"""The squared error that a quantizer makes: on values of a histogram, or on a tensor."""

from dataclasses import dataclass

import torch

from fxquant.quantization import QuantizerBase
from fxquant.quantization.affine.encoding import AffineEncoding
from fxquant.quantization.encoding_analyzer import ExactHistograms
from fxquant.quantization.encoding_analyzer.squared_error import error_of_grids

_POINTS = 8  # of a bin, where a grid is not even


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Sums over the values of a tensor.

    Attributes:
        noise: Of squared errors.
        signal: Of squares.
        elements: Number of values.
    """

    noise: float
    signal: float
    elements: int


def noise_of_histogram(quantizer: QuantizerBase, histogram: ExactHistograms) -> Noise:
    """Return the error of a quantizer on what a histogram counted.

    Within a bin values are taken to be spread evenly, but for exact zeros; the outermost bins end at the
    smallest and the largest value. The distance to a grid changes by no more than the value does; so the root
    of the mean squared error is off by less than the width of a bin, whatever the values.
    """
    low, high = histogram.minimum[:, None], histogram.maximum[:, None]
    edges = torch.minimum(torch.maximum(histogram.bin_edges, low), high).double()
    width = edges.diff(dim=1)
    counts = histogram.counts_without_zeros
    density = torch.where(width > 0, counts / width.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    ends, starts = edges[:, 1:], edges[:, :-1]
    signal = float((density * (ends**3 - starts**3) / 3).sum())
    encoding = quantizer.get_encodings()
    single = torch.where(width > 0, 0.0, counts)  # tensors of one value, and ends that lie on an edge
    signal += float((single * starts.square()).sum())
    if isinstance(encoding, AffineEncoding) and encoding.zero_point_shift == 0:
        scale = encoding.scale.detach().double().reshape(-1, 1)
        lowest = encoding.offset.detach().double().reshape(-1, 1) + encoding.qmin
        noise = float(error_of_grids(edges, density, scale, lowest, encoding.num_steps).sum())
        codes = (starts / scale).round().clamp(lowest, lowest + encoding.num_steps)
        noise += float((single * (codes * scale - starts).square()).sum())
    else:
        parts = (torch.arange(_POINTS, device=edges.device, dtype=torch.float64) + 0.5) / _POINTS
        points = (starts[..., None] + width[..., None] * parts).flatten(1)
        with torch.no_grad():
            error = (quantizer(points.float().reshape(-1)).double().reshape(points.shape) - points).square()
        noise = float((error.reshape(*counts.shape, _POINTS).mean(dim=2) * counts).sum())
    return Noise(noise=max(noise, 0.0), signal=signal, elements=int(histogram.bins.sum()))


def noise_of_tensor(quantizer: QuantizerBase, tensor: torch.Tensor) -> Noise:
    """Return the error of a quantizer on a tensor, exactly."""
    with torch.no_grad():
        values = tensor.detach()
        error = quantizer(values).double() - values.double()
    return Noise(
        noise=float(error.square().sum()),
        signal=float(values.double().square().sum()),
        elements=values.numel(),
    )
