"""MSE: the range whose grid has the least expected squared error."""

import math
from collections.abc import Sequence

import torch

from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.analyzer import EncodingAnalyzer
from fxquant.quantization.encoding_analyzer.code_gains import CodeGains
from fxquant.quantization.encoding_analyzer.cover import cover
from fxquant.quantization.encoding_analyzer.exact_histogram import ExactHistograms, power_of_two
from fxquant.quantization.encoding_analyzer.exact_observer import ExactHistogramObserver, require_exact
from fxquant.quantization.encoding_analyzer.grid_search import find_best_grids, ranges_together
from fxquant.quantization.encoding_analyzer.histogram import Histograms
from fxquant.quantization.encoding_analyzer.squared_error import squared_error

# Shares of the observed end: evenly spaced to a quarter, then in equal ratios to 1/2048, about one bin.
_SCAN = [i / 48 for i in range(48, 12, -1)] + [2.0 ** (-2 - i / 4) for i in range(37)]
_FINE = [2.0 ** (i / 32) for i in (0, -3, -2, -1, 1, 2, 3)]  # factors of the best so far
_FINER = [2.0 ** (i / 128) for i in (0, -3, -2, -1, 1, 2, 3)]
_LOW, _HIGH = [0], [1]
_BOTH = [0, 1]
_SYMMETRIC_MOVES = [(_SCAN, _BOTH), (_FINE, _BOTH), (_FINER, _BOTH)]
_ASYMMETRIC_MOVES = [
    (_SCAN, _BOTH),  # or outliers at one end would hide what those at the other cost
    *((factors, ends) for factors in (_SCAN, _FINE, _FINER) for ends in (_HIGH, _LOW)),
]
_RANGES_TOGETHER = 64  # bounds memory


class MseEncodingAnalyzer(EncodingAnalyzer[Histograms]):
    """Covers the range whose grid rounds and clips the observed values with the least mean squared error.

    The error is that of ``squared_error`` on an exact histogram, so the result does not depend on the order
    of the batches. Zeros count as they are: without error. The search goes from the observed range inward.
    With fewer codes than bins it tries each scale with every offset (``find_best_grids``). Otherwise it scans
    both ends together, then each end alone, then more closely around the best. Of a symmetric grid both ends
    always move together. Infinite values are ignored.

    Args:
        shape: Shape of the range: () for one range per tensor, otherwise broadcastable against the tensors.
        num_bins: Number of bins of the histogram, at least 16.
        block_size: Block sizes by axis; None without blocks.

    Raises:
        OptionError: If there are too few bins.
    """

    def __init__(
        self, shape: Sequence[int] | int, num_bins: int = 2048, *, block_size: BlockSize = None
    ) -> None:
        super().__init__(ExactHistogramObserver(shape, block_size=block_size, num_bins=num_bins))

    def _find_range(
        self, stats: Histograms, num_steps: int, is_symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        exact = require_exact(stats)
        is_unseen = exact.minimum > exact.maximum
        low, high = (end.masked_fill(is_unseen, 0.0) for end in (exact.minimum, exact.maximum))
        low, high = cover(low, high, num_steps, is_symmetric, may_clip_two_bits=False)
        if num_steps < exact.bins.shape[1]:
            return _search_by_code(exact, low, high, num_steps, is_symmetric)
        edges, density = exact.bin_edges, exact.counts_without_zeros / power_of_two(exact.exponent)[:, None]
        found = [
            _search(edges[part], density[part], low[part], high[part], num_steps, is_symmetric)
            for part in (slice(i, i + _RANGES_TOGETHER) for i in range(0, len(exact), _RANGES_TOGETHER))
        ]
        return torch.cat([minimum for minimum, _ in found]), torch.cat([maximum for _, maximum in found])


def _search_by_code(
    exact: ExactHistograms, minimum: torch.Tensor, maximum: torch.Tensor, num_steps: int, is_symmetric: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best range within about [minimum, maximum], [n] each, of grids of fewer codes than bins."""
    width = power_of_two(exact.exponent)
    widest = (maximum.double() - minimum) / num_steps
    lowest = torch.round(minimum / widest)
    counts, scale = exact.counts_without_zeros, torch.empty_like(widest)
    may_shift = not is_symmetric and bool((exact.first < 0).any())  # else no code below zero gains anything
    together = ranges_together(counts, num_steps)
    for rows in (slice(i, i + together) for i in range(0, len(exact), together)):
        gains = CodeGains.of_spread_values(counts[rows], exact.first[rows])
        scale[rows], lowest[rows] = find_best_grids(
            gains, widest[rows] / width[rows], lowest[rows], num_steps, may_shift=may_shift
        )
    scale *= width
    return (lowest * scale).float(), ((lowest + num_steps) * scale).float()


def _search(
    edges: torch.Tensor,
    density: torch.Tensor,
    minimum: torch.Tensor,
    maximum: torch.Tensor,
    num_steps: int,
    is_symmetric: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the best range within [minimum, maximum], each [n]."""
    widest = torch.stack((minimum, maximum), dim=1).double()
    best, least = widest, torch.full_like(widest[:, 0], math.inf)
    for factors, ends in _SYMMETRIC_MOVES if is_symmetric else _ASYMMETRIC_MOVES:
        start = widest if factors is _SCAN else best
        tried = best[:, None].repeat(1, len(factors), 1)
        tried[:, :, ends] = start[:, None, ends] * tried.new_tensor(factors)[:, None]
        tried[:, :, 0].clamp_min_(widest[:, :1])
        tried[:, :, 1].clamp_max_(widest[:, 1:])
        errors = squared_error(edges, density, tried[..., 0], tried[..., 1], num_steps, is_symmetric)
        error, which = errors.min(dim=1)
        found = tried.gather(1, which[:, None, None].expand(-1, 1, 2))[:, 0]
        best = torch.where((error < least)[:, None], found, best)
        least = torch.minimum(error, least)
    return best[:, 0].float(), best[:, 1].float()
