"""Arrays: whole data sets in arrays, one per input, as batches of rows."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence

from fxquant.calibration.leaves import with_leaves
from fxquant.calibration.sources import Indexed
from fxquant.errors import BatchError

FILE_ROWS = 32
"""Rows in a batch from a file, where no batch size is given."""

_ENDINGS = (".npz", ".npy")


def read_file(path: str | os.PathLike[str]) -> Any:
    """Return the arrays of an .npz file by name, or the array of an .npy file.

    Raises:
        BatchError: If it is no such file.
    """
    if Path(path).suffix not in _ENDINGS:
        raise BatchError(
            f"'{path}' is no data: a text has to be the path of an .npz or .npy file.",
            remedy="Pass such a path, a DataLoader, arrays or an iterable of batches.",
        )
    if Path(path).suffix == ".npz":
        return named_or_not(read_npz(Path(path)))
    try:
        return np.load(path, mmap_mode="r")
    except Exception as error:  # numpy has no common error for files that it does not read
        raise BatchError(
            f"'{path}' does not hold batches: {error}.", remedy="Write it with numpy.save(path, array)."
        ) from error


def read_npz(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays of an .npz file by name.

    Raises:
        BatchError: If it is no such file.
    """
    try:
        with np.load(path) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except Exception as error:  # numpy has no common error for files that it does not read
        raise BatchError(
            f"'{path}' does not hold batches: {error}.",
            remedy="Write it with numpy.savez(path, input=array).",
        ) from error


def named_or_not(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Any:
    """Return the arrays of an .npz file by name, or those that were saved without names as a tuple."""
    is_positional = list(arrays) == [f"arr_{index}" for index in range(len(arrays))]
    return tuple(arrays.values()) if is_positional else dict(arrays)


def in_rows(arrays: Any, size: int) -> Indexed:
    """Return arrays or tensors as batches of rows; the last one may have fewer.

    Args:
        arrays: [rows, ...] each, alone or in a dict or tuple; those without dimensions go into every batch.
        size: Rows in a batch.

    Raises:
        BatchError: If they differ in rows, or there are none.
    """
    rows = _rows(arrays)

    def load(index: int) -> object:
        def cut(leaf: Any) -> Any:
            return leaf[index * size : (index + 1) * size] if leaf.ndim else leaf

        return with_leaves(arrays, cut)

    return Indexed(length=-(-rows // size), load=load)


def is_array(data: object) -> bool:
    """Whether something is a tensor or an array."""
    return isinstance(data, torch.Tensor | np.ndarray)


def _rows(arrays: Any) -> int:
    sizes: dict[int, None] = {}

    def note(leaf: Any) -> Any:
        if isinstance(leaf, PackedSequence):
            raise BatchError("A packed sequence has no rows to cut.", remedy="Pass it without a batch size.")
        if leaf.ndim:
            sizes[leaf.shape[0]] = None
        return leaf

    with_leaves(dict(arrays) if isinstance(arrays, Mapping) else arrays, note)
    if len(sizes) != 1:
        found = f"arrays of {' and '.join(map(str, sizes))} rows" if sizes else "no array with rows"
        raise BatchError(
            f"The data holds {found}.", remedy="Pass arrays of one number of rows, an array per input."
        )
    return next(iter(sizes))
