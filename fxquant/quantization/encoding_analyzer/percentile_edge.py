"""The edge of a histogram that a share of the values lies below: NVIDIA's percentile calibration."""

import torch

from fxquant.errors import OptionError


def edge_at_percentile(counts: torch.Tensor, percentile: float) -> torch.Tensor:
    """Return the first bin up to which the running share of the values reaches percentile / 100.

    Args:
        counts: Float64 [n, bins].
        percentile: From 0 to 100.

    Returns:
        Int64 [n]: the bin, whose left edge clips at the percentile; the number of bins if rounding lets the
        shares of all bins add up to less.

    Raises:
        OptionError: If the percentile is out of range.
    """
    if not 0 <= percentile <= 100:
        raise OptionError(f"A percentile of {percentile} is out of range.", remedy="Choose one in [0, 100].")
    running = (counts / counts.sum(dim=1, keepdim=True)).cumsum(dim=1)
    return torch.searchsorted(running, running.new_full((len(counts), 1), percentile / 100))[:, 0]
