"""sharded: the batches of one process among several."""

from collections.abc import Iterable, Mapping
from itertools import islice

import torch
from torch.utils.data import DataLoader

from fxquant.errors import BatchError
from fxquant.graph import Example


def sharded(data: object, rank: int, world_size: int) -> Iterable[object]:
    """Return the batches of one process: numbers ``rank``, ``rank + world_size``, and so on, in order.

    A DataLoader with a DistributedSampler gives each process its part already and is left as it is.

    Raises:
        BatchError: If it cannot be iterated over.
    """
    if isinstance(data, torch.Tensor | Mapping | Example):
        data = (data,)
    if not isinstance(data, Iterable):
        raise BatchError(
            f"Batches must be an iterable, not {type(data).__name__}.",
            remedy="Pass a DataLoader, a list or a generator of batches.",
        )
    if is_sharded(data):
        return data
    return data[rank::world_size] if isinstance(data, list) else islice(data, rank, None, world_size)


def is_sharded(data: object) -> bool:
    """Whether data gives each process its part by itself: a DataLoader whose sampler knows of ranks."""
    if not isinstance(data, DataLoader):
        return False
    samplers = (data.sampler, data.batch_sampler, getattr(data.batch_sampler, "sampler", None))
    return any(hasattr(sampler, "num_replicas") for sampler in samplers)
