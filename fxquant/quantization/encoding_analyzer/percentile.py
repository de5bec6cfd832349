"""Percentile: the range without a given share of the largest and of the smallest values."""

from collections.abc import Sequence

import torch

from fxquant.errors import OptionError
from fxquant.quantization.blocks import BlockSize
from fxquant.quantization.encoding_analyzer.analyzer import EncodingAnalyzer
from fxquant.quantization.encoding_analyzer.cover import cover
from fxquant.quantization.encoding_analyzer.exact_observer import histogram_observer
from fxquant.quantization.encoding_analyzer.histogram import Histograms


class PercentileEncodingAnalyzer(EncodingAnalyzer[Histograms]):
    """Covers what is left when (100 - percentile) % of the values are cut off at either end.

    The ends are left ends of histogram bins: of the first bin at which the running count reaches the share
    ``1 - percentile/100``, and of the first at which it reaches ``percentile/100`` (AIMET's rule). Of exact
    histograms the upper end is the right end of that bin. At 100 they are the ends of the histogram.

    Args:
        shape: Shape of the range: () for one range per tensor, otherwise broadcastable against the tensors.
        num_bins: Number of bins of the histogram.
        percentile: From 50 to 100.
        block_size: Block sizes by axis; None without blocks.
        exact: Count into ``ExactHistograms``, which do not depend on the order of the batches, instead of
            AIMET's bins.

    Raises:
        OptionError: If there are no bins or the percentile is out of range.
    """

    percentile: float

    def __init__(
        self,
        shape: Sequence[int] | int,
        num_bins: int = 2048,
        percentile: float = 100,
        block_size: BlockSize = None,
        *,
        exact: bool = False,
    ) -> None:
        super().__init__(histogram_observer(shape, block_size, num_bins, exact=exact))
        self.set_percentile(percentile)

    def set_percentile(self, percentile: float) -> None:
        """Set the percentile, from 50 to 100; what was observed stays.

        Raises:
            OptionError: If it is out of range.
        """
        if not 50 <= percentile <= 100:
            raise OptionError(
                f"A percentile of {percentile} is out of range.", remedy="Choose one in [50, 100]."
            )
        self.percentile = percentile

    def _find_range(
        self, stats: Histograms, num_steps: int, is_symmetric: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        edges = stats.bin_edges
        minimum, maximum = edges[:, 0], edges[:, -1]
        if self.percentile < 100:
            running = stats.counts.cumsum(dim=1)
            total = running[:, -1:]
            first = torch.searchsorted(running, total * (1 - self.percentile / 100))
            last = torch.searchsorted(running, total * self.percentile / 100)
            # exact bins may be wide, and then a left end would cut off a whole bin of values
            end = last + int(stats.has_exact_ends)
            minimum, maximum = edges.gather(1, first)[:, 0], edges.gather(1, end)[:, 0]
        if stats.has_exact_ends:
            minimum, maximum = (end.clamp(stats.minimum, stats.maximum) for end in (minimum, maximum))
        return cover(minimum, maximum, num_steps, is_symmetric, may_clip_two_bits=False)
