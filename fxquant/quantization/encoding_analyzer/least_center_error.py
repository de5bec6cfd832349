"""The bin whose center, as amax, leaves the least squared error: NVIDIA's mse calibration."""

import torch

from fxquant.errors import OptionError
from fxquant.quantization.encoding_analyzer.code_gains import CodeGains
from fxquant.quantization.multiplier import quantize_dequantize

# Products of amax and codes or bins worked on at a time: some copies of them fit the cache; elsewhere memory
# limits.
_CHUNK = {"cpu": 2**16}
_CHUNK_ELSEWHERE = 2**24
_TOGETHER = 2**21  # products of amax and codes that many histograms share
# By how much float32 moves the root of a sum of squared errors: the multiplier and the division by it each
# round a value by 2^-24 of itself, and the sum of squares by some 1e-6 of itself (mean, weights, squares).
_ROUNDING_OF_VALUES = 4 * 2.0**-24
_ROUNDING_OF_SUMS = 1e-5
# Many histograms that begin at 0 share their grids, in widths of their bins, if these are as even as float32
# has them.
_FEW, _MAY_MOVE = 16, 2.0**-20
# Below, a range counts as empty at 2^-24; beyond, squares in float32 come near its largest number.
_SMALLEST, _LARGEST = 1e-6, 1e10


def center_of_least_error(
    counts: torch.Tensor,
    centers: torch.Tensor,
    num_codes: int,
    *,
    start: int,
    stride: int = 1,
    num_bins: torch.Tensor,
) -> torch.Tensor:
    """Return which of the bins start, start + stride, .. leaves the least error, the first if several.

    The error of bin i is the mean over bins of count * (quantized center - center)^2, amax being the center
    of bin i and the codes those of a narrow range, each operation rounded to float32: ``mean_error``. Its
    argmin is returned as float32 has it. ``CodeGains`` tell by one look-up a code which amax can have it, and
    only these are worked out as defined.

    Args:
        counts: Whole numbers, float64 [n, bins]; zero beyond the bins of a histogram.
        centers: Float32 [n, bins], evenly spaced but for rounding.
        num_codes: The highest code, which stands for amax.
        start: Not negative.
        stride: At least 1.
        num_bins: How many bins each histogram has, int64 [n].

    Returns:
        Bins, int64 [n].

    Raises:
        OptionError: If start is negative or stride below 1, or a histogram has no bin ``start``.
    """
    if start < 0 or stride < 1 or int(num_bins.min()) <= start:
        raise OptionError(
            f"No bin from {start} on in steps of {stride} is there in a histogram of "
            f"{int(num_bins.min())} bins.",
            remedy="Give a start_bin below the number of bins and a stride of at least 1.",
        )
    tried = torch.arange(start, counts.shape[1], stride, device=counts.device)
    is_there = tried < num_bins[:, None]
    is_candidate = _may_be_least(counts, centers, num_codes, tried, is_there) & is_there
    # nothing but zeros leaves no error whatever amax is
    is_candidate[((counts == 0) | (centers == 0)).all(dim=1), 1:] = False
    best = tried[is_candidate.byte().argmax(dim=1)]
    is_open = is_candidate.sum(dim=1) > 1
    for own in set(num_bins[is_open].tolist()):  # a mean is rounded by how many bins it is over
        rows = (is_open & (num_bins == own)).nonzero()[:, 0]
        best[rows] = tried[
            _least_of(counts[rows, :own], centers[rows, :own], num_codes, tried, is_candidate[rows])
        ]
    return best


def mean_error(
    counts: torch.Tensor, centers: torch.Tensor, amax: torch.Tensor, num_codes: int
) -> torch.Tensor:
    """Return the mean over bins of count * (quantized center - center)^2, in float32.

    Args:
        counts: [m, bins].
        centers: Float32 [m, bins].
        amax: Float32 [m].
        num_codes: The highest code, which stands for amax.

    Returns:
        Errors, float32 [m].
    """
    error = quantize_dequantize(centers, amax[:, None], -num_codes, num_codes).sub_(centers)
    return error.square_().mul_(counts).mean(dim=1)


def _least_of(
    counts: torch.Tensor,
    centers: torch.Tensor,
    num_codes: int,
    tried: torch.Tensor,
    is_candidate: torch.Tensor,
) -> torch.Tensor:
    """Return the first candidate of each row whose error is the least, as an index into tried."""
    weights = counts.float()
    row, candidate = is_candidate.nonzero().unbind(dim=1)
    errors = torch.full(is_candidate.shape, torch.inf, device=counts.device)
    step = max(1, _CHUNK.get(counts.device.type, _CHUNK_ELSEWHERE) // counts.shape[1])
    for rows, some in zip(torch.split(row, step), torch.split(candidate, step), strict=True):
        # NaN, of numbers beyond float32, is less than any error, as for numpy
        errors[rows, some] = mean_error(
            weights[rows], centers[rows], centers[rows, tried[some]], num_codes
        ).nan_to_num_(nan=-1.0, posinf=torch.inf)
    return torch.where(is_candidate, errors, torch.inf).argmin(dim=1)


def _may_be_least(
    counts: torch.Tensor,
    centers: torch.Tensor,
    num_codes: int,
    tried: torch.Tensor,
    is_there: torch.Tensor,
) -> torch.Tensor:
    """Return which amax can have the least error once float32 has rounded it, [n, m]."""
    values = centers.double()
    width = (values[:, -1:] - values[:, :1]) / max(1, values.shape[1] - 1)
    is_sound = (values[:, 0] >= 0) & (values[:, tried[0]] > _SMALLEST) & (values[:, -1] < _LARGEST)
    if num_codes >= counts.shape[1]:  # then a code costs as much as a bin
        is_sound = torch.zeros_like(is_sound)
    unit = torch.where(is_sound[:, None] & (width > 0), width, 1.0)
    in_widths = values / unit
    gains = CodeGains.of_values(counts, in_widths, in_widths[:, 0] - 1)
    taken_off, moved = _taken_off(gains, in_widths, num_codes, tried)
    root = (gains.squares[:, None] - taken_off).clamp_min_(0).sqrt_()
    slack = (_ROUNDING_OF_VALUES + moved) * gains.squares.sqrt()[:, None]
    lowest, highest = root * (1 - _ROUNDING_OF_SUMS) - slack, root * (1 + _ROUNDING_OF_SUMS) + slack
    highest.masked_fill_(~is_there, torch.inf)
    return (lowest <= highest.amin(dim=1, keepdim=True)) | ~is_sound[:, None]


def _taken_off(
    gains: CodeGains, centers: torch.Tensor, num_codes: int, tried: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """Return what codes take off the sum of squares, [n, m], and what part of itself a grid was moved by."""
    codes = torch.arange(num_codes, dtype=torch.float64, device=centers.device) + 0.5
    even = torch.arange(centers.shape[1], dtype=torch.float64, device=centers.device) + 0.5
    moved = float((centers / even - 1).abs().max())
    if len(centers) >= _FEW and moved < _MAY_MOVE:
        blocks = [
            2 * steps * gains.summed_above(steps[:, None] * codes)
            for steps in torch.split(even[tried] / num_codes, max(1, _TOGETHER // num_codes))
        ]
        return torch.cat(blocks, dim=1), 2 * moved
    together = max(1, _CHUNK.get(centers.device.type, _CHUNK_ELSEWHERE) // (len(centers) * num_codes))
    parts = [
        2 * steps * gains.at(steps[..., None] * codes, codes.new_tensor(1.0)).sum(dim=2)
        for steps in torch.split(centers[:, tried] / num_codes, together, dim=1)
    ]
    return torch.cat(parts, dim=1), 0.0
