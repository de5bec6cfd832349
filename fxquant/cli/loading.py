"""What commands are given: models by name or from a pickle, batches from an .npz file."""

import importlib
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from fxquant.calibration.arrays import in_rows, read_npz
from fxquant.errors import ModelTypeError
from fxquant.runtimes import Arrays, input_sizes


def load_model(path: str) -> nn.Module:
    """Return the model that "module:name" names, or that what it names gives when called.

    Raises:
        ModelTypeError: If there is none.
    """
    module_name, _, attribute = path.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # whatever importing the user's module raises
        raise ModelTypeError(f"There is no '{path}': {error}.", remedy="Write module:name.") from error
    if not isinstance(found, nn.Module) and callable(found):
        try:
            found = found()
        except Exception as error:  # whatever the user's function raises
            what = f"'{path}' does not give a model: {type(error).__name__}: {error}."
            raise ModelTypeError(
                what, remedy="Name an nn.Module or what makes one without arguments."
            ) from error
    if not isinstance(found, nn.Module):
        raise ModelTypeError(
            f"'{path}' is a {type(found).__name__}.", remedy="Name an nn.Module or what makes one."
        )
    return found


def load_quantized(path: Path) -> fx.GraphModule:
    """Return the model in a pickle, which may run any code while it is loaded.

    Raises:
        ModelTypeError: If it cannot be loaded.
    """
    try:
        return torch.load(path, weights_only=False)  # type: ignore[no-any-return]  # verify checks what it is
    except Exception as error:  # whatever the file's classes raise while they are made
        raise ModelTypeError(
            f"'{path}' does not hold a model: {type(error).__name__}: {error}.",
            remedy="Give the file that fxquant quantize saved, or none to compare two runtimes.",
        ) from error


def rows_of(file: Path) -> int:
    """Return the number of rows that a file is fixed to; 32 where it takes any."""
    return next((sizes[0] for sizes in input_sizes(file).values() if sizes and sizes[0]), 32)


def load_batches(path: Path, size: int) -> list[Arrays]:
    """Return the arrays of an .npz file as batches.

    Args:
        path: The file, with an array per input: [rows, ...].
        size: Rows of each array in one batch; the last one may have fewer.

    Raises:
        BatchError: If it holds none, or arrays of different numbers of rows.
    """
    batches: Any = in_rows(read_npz(path), size).run(0, None, 1)
    return list(batches)
