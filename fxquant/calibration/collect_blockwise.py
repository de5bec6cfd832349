"""collect_blockwise: gather statistics with one block of the model in memory at a time."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from fxquant.calibration.batch_errors import not_finite, rejected
from fxquant.calibration.blockwise import run_blockwise
from fxquant.calibration.collector import Collector
from fxquant.calibration.interpreter import CalibrationInterpreter
from fxquant.calibration.offload import Offload
from fxquant.calibration.signature import Signature
from fxquant.calibration.sites import ActivationSite, sites_to_show
from fxquant.calibration.statistics import Statistics
from fxquant.errors import FxQuantError
from fxquant.graph import Example
from fxquant.graph.blocks import Block


def collect_blockwise(
    gm: fx.GraphModule,
    calls: Iterable[Example],
    statistics: Statistics,
    offload: Offload,
) -> None:
    """Run batches block by block; add what quantizers were given to statistics, at the end or not at all.

    Args:
        gm: The prepared model.
        calls: The batches, as calls of the model, at least one.
        statistics: Where to add what is seen.
        offload: Where values wait between two blocks.

    Raises:
        BatchError: If the model rejects a batch.
        NonFiniteError: If NaN or Inf shows up where a range is measured.
        OffloadError: If values cannot be kept.
    """
    fresh, signature = Statistics(statistics.kinds), Signature(gm)
    observer = _Observer(gm, Collector(sites_to_show(gm, fresh.kinds), fresh))
    inputs = (list(signature.bind(example).values()) for example in calls)
    fresh.num_batches = observer.run(inputs, offload)
    statistics.merge(fresh if offload.device is None else _on_cpu(fresh))


def _on_cpu(statistics: Statistics) -> Statistics:
    """Return statistics where the model's quantizers are, which its blocks' device is not."""
    values = statistics.to_dict()
    return Statistics.from_dict(
        pytree.tree_map(lambda value: value.cpu() if isinstance(value, torch.Tensor) else value, values)
    )


class _Observer:
    """Shows a collector what the quantizers of each block are given."""

    def __init__(self, gm: fx.GraphModule, collector: Collector) -> None:
        self._gm, self._collector = gm, collector
        self._sites = {site.node: site for site in collector.sites}
        self._interpreter = CalibrationInterpreter(gm, self._show)
        self._is_searching = False
        self._culprit: ActivationSite | None = None

    def run(self, inputs: Iterable[list[Any]], offload: Offload) -> int:
        """Run the model; return the number of batches."""
        try:
            with self._interpreter.nested():
                return run_blockwise(self._gm, self._interpreter, inputs, offload, self._after)
        except FxQuantError:
            raise
        except Exception as error:  # whatever the model raises on data that it does not take
            raise rejected("a batch", self._interpreter.last_layer(), error) from error

    def _show(self, node: fx.Node, value: object) -> None:
        site = self._sites.get(node)
        if site is None:
            return
        if not self._is_searching:
            self._collector.show(site, value)
        elif self._culprit is None and isinstance(value, torch.Tensor) and value.is_floating_point():
            self._culprit = None if bool(value.isfinite().all()) else site

    def _after(self, block: Block, index: int) -> bool:
        """Take in what a block showed of a batch; return whether it is to run again."""
        if self._is_searching:
            name, layer = (self._culprit.name, self._culprit.layer) if self._culprit else ("", "")
            raise not_finite(index, name, layer)
        if self._collector.found_masks():
            return True
        self._is_searching = not self._collector.is_finite()
        if not self._is_searching:
            self._collector.end_batch()
        return self._is_searching
