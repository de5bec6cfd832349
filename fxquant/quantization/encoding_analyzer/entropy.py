"""Entropy: the clipping threshold that loses least information (Kullback-Leibler)."""

from collections.abc import Sequence

import torch

from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.analyzer import EncodingAnalyzer
from fxquant.quantization.encoding_analyzer.cover import cover
from fxquant.quantization.encoding_analyzer.exact_histogram import power_of_two
from fxquant.quantization.encoding_analyzer.exact_observer import ExactHistogramObserver, require_exact
from fxquant.quantization.encoding_analyzer.histogram import Histograms
from fxquant.quantization.encoding_analyzer.kullback_leibler import kullback_leibler, merged_levels

_ROUNDING = 1e-12  # some hundred times what a divergence is rounded by


class EntropyEncodingAnalyzer(EncodingAnalyzer[Histograms]):
    """Clips at the threshold T on |x| whose quantized distribution diverges least from the observed one.

    The method of TensorRT (Migacz 2017, "8-bit Inference with TensorRT", GTC), see ``divergences``, with one
    level for each step of half the grid: 128 levels for 8 bits, and 2048 bins. Two things differ: a bin is
    2^k wide, so that the histogram is exact whatever the order of the batches and 1025 to 2048 bins are in
    use; and values that are exactly zero are left out, as every grid holds zero. Of thresholds that are equal
    but for rounding, as with few distinct values, it is the largest.

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
            # Of equals the largest: with few distinct values, rounding alone would say which one it is.
            is_least = found <= found.amin(dim=1, keepdim=True) + _ROUNDING
            kept = (is_least * torch.arange(num_levels, exact.bins.shape[1] + 1, device=found.device)).amax(1)
            # Migacz: (m + 0.5) bin widths, m being the number of bins kept
            threshold = ((kept + 0.5) * power_of_two(exact.exponent)).float()
            threshold = threshold.masked_fill(~found.amin(dim=1).isfinite(), torch.inf)
            minimum, maximum = (end.clamp(-threshold, threshold) for end in (minimum, maximum))
        return cover(minimum, maximum, num_steps, is_symmetric)


def divergences(counts: torch.Tensor, num_levels: int) -> torch.Tensor:
    """Return KL(P || Q) for each number of kept bins from num_levels to all.

    See ``kullback_leibler``; the levels are those of Migacz 2017 (slide "Entropy calibration - pseudocode"),
    as even as whole bins allow, and a bin is empty where P has nothing. Thresholds beyond the last used bin
    are no candidates, unless all used bins are fewer than the levels.

    Args:
        counts: Float64 [n, bins].
        num_levels: Less than the number of bins.

    Returns:
        Divergences, float64 [n, bins - num_levels + 1]; infinite where i is no candidate.
    """
    num_bins = counts.shape[1]
    levels = merged_levels(num_levels, num_levels, num_bins + 1, 1, rounds_up=False, device=counts.device)
    used = ((counts > 0) * torch.arange(1, num_bins + 1, device=counts.device)).amax(dim=1, keepdim=True)
    num_candidates = int(used.max()) + 1 - num_levels
    found = counts.new_full((len(counts), num_bins - num_levels + 1), torch.inf)
    if num_candidates <= 0:
        return found
    measured = kullback_leibler(counts, levels, num_candidates, keeps_outliers=True)
    measured.masked_fill_(levels.kept[:num_candidates] > used, torch.inf)
    found[:, :num_candidates] = measured.nan_to_num_(nan=torch.inf, posinf=torch.inf)
    return found
