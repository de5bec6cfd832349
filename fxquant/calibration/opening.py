"""opened: what users hand over as data, as a source of batches."""

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import is_dataclass

from numpy.lib.npyio import NpzFile
from torch import nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import DataLoader

from fxquant.calibration.arrays import FILE_ROWS, in_rows, is_array, named_or_not, read_file
from fxquant.calibration.leaves import is_named_tuple
from fxquant.calibration.loaders import Loader
from fxquant.calibration.samples import Collate, in_batches, is_dataset
from fxquant.calibration.sources import Indexed, Source, Stream, stream
from fxquant.errors import BatchError
from fxquant.graph import Example


def opened(data: object, size: int | None, collate: Collate | None) -> Source:
    """Return data as a source of batches; docs/data.md lists the kinds.

    Args:
        data: What the user gave.
        size: Rows or samples in a batch; None where data holds batches.
        collate: Makes a batch of a list of samples.

    Raises:
        BatchError: If it is no data, or it is not known how to make batches of it.
    """
    if isinstance(data, DataLoader):
        return _loader(data, size)
    if isinstance(data, str | os.PathLike):
        data, size = read_file(data), size or FILE_ROWS
    if isinstance(data, NpzFile):
        data = named_or_not(data)
    if _is_arrays(data, size):
        return Indexed(length=1, load=lambda index: data) if size is None else in_rows(data, size)
    if is_dataset(data) and size is None:
        raise BatchError(
            f"A {type(data).__name__} gives samples, not batches.",
            remedy="Pass fxquant.Batches(dataset, batch_size=32), or a DataLoader.",
        )
    is_iterable = isinstance(data, Iterable) and not isinstance(data, type)
    if size is not None and (is_iterable or _is_indexed(data)):
        return in_batches(data, size, collate)
    if isinstance(data, Sequence):
        return Indexed(length=len(data), load=data.__getitem__)
    if isinstance(data, Iterable) and is_iterable:
        return stream(data)
    if callable(data) and not isinstance(data, nn.Module | type):
        return _function(data, size, collate)
    hint = " Call it and pass what it returns." if isinstance(data, type) else ""
    raise BatchError(
        f"Batches must be an iterable, not {type(data).__name__}.",
        remedy=f"Pass a DataLoader, a list, a generator of batches, or the function that makes one.{hint}",
    )


def _loader(loader: DataLoader[object], size: int | None) -> Source:
    if size is not None:
        raise BatchError("A DataLoader makes batches by itself.", remedy="Pass it without a batch size.")
    return Loader(loader=loader)


def _is_arrays(data: object, size: int | None) -> bool:
    """Whether data is one batch, or with a batch size the arrays to cut, and not a sequence of batches."""
    is_record = is_dataclass(data) and not isinstance(data, type | Iterable) and not _is_indexed(data)
    is_one = is_array(data) or isinstance(data, Mapping | Example | PackedSequence) or is_named_tuple(data)
    is_tuple_of_arrays = isinstance(data, tuple) and bool(data) and all(map(is_array, data))
    return is_one or is_record or (size is not None and is_tuple_of_arrays)


def _is_indexed(data: object) -> bool:
    return hasattr(data, "__getitem__") and not isinstance(data, type)


def _function(function: Callable[[], object], size: int | None, collate: Collate | None) -> Source:
    """Return what a function makes, anew for every pass."""
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError) as error:
        raise BatchError(
            f"Batches must be an iterable, or a function that makes one without arguments: {error}.",
            remedy="Call it and pass what it returns, or wrap it: lambda: function(...).",
        ) from error
    return Stream(begin=lambda: opened(function(), size, collate).run(0, None, 1))
