"""Samples: data sets that give one sample at a time, as batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

from fxquant.calibration.leaves import is_named_tuple
from fxquant.calibration.sources import Indexed, Source, Stream, sized, stream
from fxquant.errors import BatchError

Collate = Callable[[list[Any]], object]


def in_batches(samples: Any, size: int, collate: Collate | None) -> Source:
    """Return samples as batches; the last one may have fewer.

    Args:
        samples: A data set or sequence, which is indexed, or an iterable.
        size: Samples in a batch.
        collate: Makes a batch of a list of samples; None for stacking tensors, arrays and numbers.
    """
    gather = collate or stacked
    length = sized(samples)
    if length is not None and hasattr(samples, "__getitem__") and not isinstance(samples, IterableDataset):

        def load(index: int) -> object:
            return gather(_fetched(samples, range(index * size, min((index + 1) * size, length))))

        return Indexed(length=-(-length // size), load=load)
    found = stream(samples)  # an old-style data set with numbers only is iterated over by Python itself

    def begin() -> Iterator[object]:
        iterator = found.begin()
        while some := list(islice(iterator, size)):
            yield gather(some)

    count = None if length is None else -(-length // size)
    return Stream(begin=begin, length=count, is_repeatable=found.is_repeatable)


def stacked(samples: list[Any]) -> Any:
    """Return samples as one batch: tensors, arrays and numbers are stacked along a new first dimension.

    Dicts, tuples, named tuples and lists are kept. Arrays and numbers become numpy arrays, so that floating
    ones take the model's type later.

    Raises:
        BatchError: If they cannot be stacked, such as tensors of different sizes, texts and images.
    """
    first = samples[0]
    try:
        if isinstance(first, torch.Tensor):
            return torch.stack(samples)
        if isinstance(first, np.ndarray | np.generic | bool | int | float):
            return np.stack(samples)
        if isinstance(first, Mapping):
            return {key: stacked([sample[key] for sample in samples]) for key in first}
        if isinstance(first, tuple | list):
            parts = [stacked(list(part)) for part in zip(*samples, strict=True)]
            if is_named_tuple(first):
                return type(first)(*parts)
            return tuple(parts) if isinstance(first, tuple) else parts
        if first is None and all(sample is None for sample in samples):
            return None
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise BatchError(f"Samples cannot be stacked: {error}.", remedy=_REMEDY) from error
    raise BatchError(f"Samples of type {type(first).__name__} cannot be stacked.", remedy=_REMEDY)


def is_dataset(data: object) -> bool:
    """Whether something holds samples: a data set of torch, or one that fetches several at once."""
    has_samples = isinstance(data, Dataset) or hasattr(data, "__getitems__")
    return has_samples and not isinstance(data, IterableDataset)


def _fetched(samples: Any, indices: Iterable[int]) -> list[Any]:
    if hasattr(samples, "__getitems__"):
        return list(samples.__getitems__(list(indices)))
    return [samples[index] for index in indices]


_REMEDY = "Pass fxquant.Batches(data, batch_size=..., collate=...), a function of a list of samples."
