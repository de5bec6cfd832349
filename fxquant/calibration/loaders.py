"""Loader: the batches of a DataLoader, and a rank's part of them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from fxquant.calibration.sources import sized

_MOMENT = 1.0  # seconds in which a dead worker is noticed


@dataclass(frozen=True, kw_only=True)
class Loader:
    """The batches of a DataLoader.

    A rank's part comes from a loader with the same workers and a part of the sampler, so that nobody loads
    what is not theirs. A loader whose sampler knows ranks by itself, such as a DistributedSampler, gives each
    process its part already, and is left as it is. Over an iterable data set, others' batches are passed
    over.

    Attributes:
        loader: The loader.
    """

    loader: DataLoader[Any]
    is_repeatable: bool = True

    @property
    def length(self) -> int | None:
        """The number of batches; None where only going through them tells."""
        return sized(self.loader)

    @property
    def is_sharded(self) -> bool:
        """Whether it gives this process its part by itself."""
        samplers = (self.loader.sampler, getattr(self.loader.batch_sampler, "sampler", None))
        return any(hasattr(sampler, "num_replicas") for sampler in (*samplers, self.loader.batch_sampler))

    def run(self, start: int, stop: int | None, step: int) -> Iterator[object]:
        """Yield the batches of a slice, in order."""
        try:
            yield from self._slice(start, stop, step)
        except (ConnectionError, EOFError) as error:
            if self.loader.num_workers and "DataLoader worker" not in str(error):
                time.sleep(_MOMENT)  # here torch's handler of signals raises, with the worker that ended
            raise

    def _slice(self, start: int, stop: int | None, step: int) -> Iterator[object]:
        if self.is_sharded:
            return islice(self.loader, stop)
        if step == 1 or isinstance(self.loader.dataset, IterableDataset):
            return islice(self.loader, start, stop, step)
        return iter(self._part(start, stop, step))

    def _part(self, start: int, stop: int | None, step: int) -> DataLoader[Any]:
        """Return a loader of a slice of the batches; one that shuffles does so equally in every process."""
        loader = self.loader
        batches = loader.batch_sampler
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            indices: list[Any] = list(
                islice(loader.sampler if batches is None else batches, start, stop, step)
            )
        own = {"sampler": indices, "batch_size": None} if batches is None else {"batch_sampler": indices}
        options: dict[str, Any] = own | (
            {"prefetch_factor": loader.prefetch_factor} if loader.num_workers else {}
        )
        return DataLoader(
            loader.dataset,
            **options,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            timeout=loader.timeout,
            worker_init_fn=loader.worker_init_fn,
            multiprocessing_context=loader.multiprocessing_context,
            generator=loader.generator,
        )
