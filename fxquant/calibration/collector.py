"""Collector: takes what quantizers are shown, batch by batch, into statistics."""

from collections.abc import Iterable

import torch
from torch import fx

from fxquant.calibration.masks import LOWEST
from fxquant.calibration.sites import ActivationSite
from fxquant.calibration.statistics import Statistics
from fxquant.calibration.tensor_statistics import Ends, Seen, TensorStatistics
from fxquant.quantization.encoding_analyzer import MinMaxRange


class Collector:
    """Looks at the tensors of one batch, and adds all of them at its end, or none.

    A tensor that holds the values of another one on the same grid is not looked at, nor is one that two
    quantizers read looked at twice, nor a constant in a second batch.

    Args:
        sites: The calls of quantizers to look at.
        statistics: Where to add what is seen.

    Attributes:
        sites: The calls whose tensors it wants to be shown.
    """

    def __init__(self, sites: Iterable[ActivationSite], statistics: Statistics) -> None:
        self.sites: list[ActivationSite] = []
        self._statistics = statistics
        self._pending: list[tuple[TensorStatistics, Seen]] = []
        sources: set[fx.Node] = set()
        for site in sites:
            source = site.node.all_input_nodes[0]
            if site.like is not None and site.like in statistics:
                statistics.like[site.name] = site.like
            elif source not in sources:
                sources.add(source)
                self._expect(site)

    def show(self, site: ActivationSite, value: object) -> None:
        """Look at what one of ``sites`` was given."""
        statistics = self._statistics.tensors[site.name]
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            self._pending.append((statistics, Seen(is_integer=True)))
        elif value.numel() == 0:
            self._pending.append((statistics, Seen(is_empty=True)))
        elif not (site.is_constant and statistics.has_range):
            self._pending.append((statistics, statistics.look(value.detach())))

    def is_finite(self) -> bool:
        """Whether all that was seen of the batch is: no NaN, no infinity."""
        numbers = all(seen.ends.is_finite for _, seen in self._pending if isinstance(seen.ends, Ends))
        return numbers and all(bool(torch.isfinite(ends).all()) for ends in self._tensors())

    def found_masks(self) -> bool:
        """Whether the batch shows masks that were not known of: it is to be shown again, without them.

        On the CPU they are known at once; for other devices this is where their results are waited for.
        """
        if all(ends.device.type == "cpu" or bool((ends > LOWEST).all()) for ends in self._tensors()):
            return False
        unknown = [
            statistics
            for statistics, seen in self._pending
            if isinstance(seen.ends, MinMaxRange)
            and not statistics.shape
            and bool((seen.ends.bounds()[0] <= LOWEST).any())
        ]
        for statistics in unknown:
            statistics.is_masked = True
        if unknown:
            self.discard()
        return bool(unknown)

    def end_batch(self) -> None:
        """Add what was seen."""
        pending, self._pending = self._pending, []
        for statistics, seen in pending:
            statistics.add(seen)
        self._statistics.num_batches += 1

    def discard(self) -> None:
        """Forget the batch."""
        self._pending = []

    def _expect(self, site: ActivationSite) -> None:
        known = self._statistics.tensors.get(site.name)
        if known is None:
            quantizer = site.quantizer
            known = TensorStatistics(
                self._statistics.kinds, quantizer.shape, quantizer.block_size, site.channel_axis
            )
            self._statistics.tensors[site.name] = known
        known.reserve()
        self.sites.append(site)

    def _tensors(self) -> list[torch.Tensor]:
        """Return the ends that are not numbers, in one tensor per device."""
        by_device: dict[torch.device, list[torch.Tensor]] = {}
        for _, seen in self._pending:
            if isinstance(seen.ends, MinMaxRange):
                for end in seen.ends.bounds():
                    by_device.setdefault(end.device, []).append(end.reshape(-1).float())
        return [torch.cat(ends) for ends in by_device.values()]
