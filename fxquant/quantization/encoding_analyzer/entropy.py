"""Entropy: the clipping threshold that loses least information (Kullback-Leibler)."""

from collections.abc import Sequence

import torch

from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.analyzer import EncodingAnalyzer
from fxquant.quantization.encoding_analyzer.cover import cover
from fxquant.quantization.encoding_analyzer.exact_histogram import power_of_two
from fxquant.quantization.encoding_analyzer.exact_observer import ExactHistogramObserver, require_exact
from fxquant.quantization.encoding_analyzer.histogram import Histograms

_CHUNK = 2**18  # products of ranges, thresholds and levels worked on at a time: bounds memory
_TINY = torch.finfo(torch.float64).tiny


class EntropyEncodingAnalyzer(EncodingAnalyzer[Histograms]):
    """Clips at the threshold T on |x| whose quantized distribution diverges least from the observed one.

    The method of TensorRT (Migacz 2017, "8-bit Inference with TensorRT", GTC), see ``divergences``, with one
    level for each step of half the grid: 128 levels for 8 bits, and 2048 bins. Two things differ: a bin is
    2^k wide, so that the histogram is exact whatever the order of the batches and 1025 to 2048 bins are in
    use; and values that are exactly zero are left out, as every grid holds zero.

    The range covers the observed one, clipped to [-T, T]. So an asymmetric range keeps a nearer end.

    Args:
        shape: Shape of the range: () for one range per tensor, otherwise broadcastable against the tensors.
        num_bins: Number of bins of the histogram of |x|, at least 16. With no more bins than levels nothing
            is clipped.
        block_size: Block sizes by axis; None without blocks.

    Raises:
        OptionError: If there are too few bins.
    """

    def __init__(
        self, shape: Sequence[int] | int, num_bins: int = 2048, *, block_size: BlockSize = None
    ) -> None:
        observer = ExactHistogramObserver(shape, block_size=block_size, num_bins=num_bins, is_magnitude=True)
        super().__init__(observer)

    def _find_range(
        self, stats: Histograms, num_steps: int, is_symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        exact = require_exact(stats)
        is_unseen = exact.minimum > exact.maximum
        minimum, maximum = (end.masked_fill(is_unseen, 0.0) for end in (exact.minimum, exact.maximum))
        num_levels = (int(num_steps) + 1) // 2
        if 1 < num_levels < exact.bins.shape[1]:
            found = divergences(exact.counts_without_zeros, num_levels)
            kept = found.argmin(dim=1) + num_levels
            # Migacz: (m + 0.5) bin widths, m being the number of bins kept
            threshold = ((kept + 0.5) * power_of_two(exact.exponent)).float()
            threshold = threshold.masked_fill(~found.amin(dim=1).isfinite(), torch.inf)
            minimum, maximum = (end.clamp(-threshold, threshold) for end in (minimum, maximum))
        return cover(minimum, maximum, num_steps, is_symmetric)


def divergences(counts: torch.Tensor, num_levels: int) -> torch.Tensor:
    """Return KL(P || Q) for each number of kept bins from num_levels to all.

    With i bins kept, the others being outliers (Migacz 2017, slide "Entropy calibration - pseudocode")::

        P  = counts of the first i bins, the outliers added to the last, over their sum
        Q  = the first i bins without outliers, merged into num_levels levels as even as whole bins allow;
             the count of a level shared evenly among its bins that are not empty in P; over its sum

    Sums over bins become differences of running sums, so that a threshold costs one term a level. Thresholds
    beyond the last used bin are no candidates, unless all used bins are fewer than the levels.

    Args:
        counts: Float64 [n, bins].
        num_levels: Less than the number of bins.

    Returns:
        Divergences, float64 [n, bins - num_levels + 1]; infinite where i is no candidate.
    """
    num_bins = counts.shape[1]
    kept = torch.arange(num_levels, num_bins + 1, device=counts.device)
    levels = torch.arange(num_levels + 1, device=counts.device)
    bounds = levels * kept[:, None] // num_levels
    step = max(1, _CHUNK // bounds.numel())
    return torch.cat([_divergences(part, kept, bounds) for part in torch.split(counts, step)])


def _divergences(counts: torch.Tensor, kept: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    running = _running(counts)
    total, inside = running[:, -1:], running[:, kept]
    outliers = total - inside
    last = counts[:, kept - 1]
    gains_bin = ((last == 0) & (outliers > 0)).double()
    sums = running[:, bounds].diff(dim=2)
    sizes = _running((counts > 0).double())[:, bounds].diff(dim=2)
    sizes[:, :, -1] += gains_bin
    level = sums / sizes.clamp_min(1)
    own = _running(torch.xlogy(counts, counts))[:, kept] - torch.xlogy(last, last)
    own += torch.xlogy(last + outliers, last + outliers)
    shared = torch.xlogy(outliers, level[:, :, -1])
    shared += level.clamp_min_(_TINY).log_().mul_(sums).sum(dim=2)  # as xlogy, but several times as fast
    found = (own - shared) / total - total.log() + inside.log()
    used = ((counts > 0) * torch.arange(1, counts.shape[1] + 1, device=counts.device)).amax(
        dim=1, keepdim=True
    )
    is_candidate = (kept <= used) & (inside > 0)
    return found.masked_fill(~is_candidate, torch.inf).nan_to_num_(nan=torch.inf, posinf=torch.inf)


def _running(values: torch.Tensor) -> torch.Tensor:
    """Return running sums that begin with zero, [n, bins + 1]."""
    return torch.nn.functional.pad(values.cumsum(dim=1), (1, 0))
