"""Batches: data and how to make batches of it; calls_of: the calls of a model that they stand for."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from itertools import chain
from typing import Any

from fxquant.calibration.example_calls import batch_call
from fxquant.calibration.opening import opened
from fxquant.calibration.signature import Signature
from fxquant.calibration.sources import Source
from fxquant.errors import BatchError, FxQuantError, OptionError
from fxquant.graph import Example


@dataclass(frozen=True, eq=False)
class Batches:
    """Data, and how to make batches of it. Every verb takes it in place of the data itself.

    Attributes:
        source: An iterable of batches, a DataLoader, a data set, a function that makes one of these for each
            pass, a generator, arrays or tensors, or the path of an .npz file: docs/data.md.
        batch_size: Rows or samples in a batch, where the source holds a data set rather than batches.
        collate: Makes a batch of a list of samples; None for stacking.
        most: Number of batches to go through; None for all.
        has_label: Whether the last value of a tuple is a label, which the model does not take; None for the
            rule, which refuses to guess where that could be an optional input.
        rank: Number of this process among those that share the batches.
        world_size: Number of such processes; each takes every ``world_size``-th batch, from ``rank`` on.

    Raises:
        OptionError: If a number is out of range, or there is a collate function and no batch size.
    """

    source: object
    _: KW_ONLY
    batch_size: int | None = None
    collate: Callable[[list[Any]], object] | None = None
    most: int | None = None
    has_label: bool | None = None
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.source, Batches):
            raise OptionError("Batches are made of Batches.", remedy="Use dataclasses.replace.")
        for name, least in (("batch_size", 1), ("most", 1), ("world_size", 1), ("rank", 0)):
            number = getattr(self, name)
            if number is not None and (not isinstance(number, int) or number < least):
                raise OptionError(
                    f"Batches have {name} {number!r}.", remedy=f"Pass a whole number, at least {least}."
                )
        if self.rank >= self.world_size:
            raise OptionError(
                f"There is no rank {self.rank} among {self.world_size}.", remedy="Ranks count from 0."
            )
        if self.collate is not None and self.batch_size is None:
            raise OptionError(
                "A collate function makes batches of samples.", remedy="Pass a batch_size beside it."
            )

    def __iter__(self) -> Iterator[object]:
        """Go through the batches.

        Raises:
            BatchError: If it is no data, or a batch cannot be loaded; says which.
        """
        iterator: Iterator[object] | None = None
        for number in range(self.rank, self.most or _MANY, self.world_size):
            try:
                iterator = iterator or self._source.run(self.rank, self.most, self.world_size)
                batch = next(iterator)
            except StopIteration:
                return
            except FxQuantError:
                raise
            except Exception as error:  # whatever the user's data raises, in this process or in a worker
                raise BatchError(
                    f"Batch {number} could not be loaded: {_told(error)}.",
                    remedy="Go through the data without fxquant to see all of the error.",
                ) from error
            yield batch

    def count(self) -> int | None:
        """Return how many batches there are for this rank; None where only going through them tells."""
        source = self._source
        if source.length is None:
            return None
        total = source.length if self.most is None else min(source.length, self.most)
        return (
            total if getattr(source, "is_sharded", False) else len(range(self.rank, total, self.world_size))
        )

    def is_repeatable(self) -> bool:
        """Return whether the data can be gone through more than once: an iterator cannot."""
        return self._source.is_repeatable

    @cached_property
    def _source(self) -> Source:
        return opened(self.source, self.batch_size, self.collate)


def as_batches(data: object) -> Batches:
    """Return any data as Batches."""
    return data if isinstance(data, Batches) else Batches(data)


def calls_of(data: object, signature: Signature) -> Iterator[Example]:
    """Yield the call of the model that each batch stands for, on the model's device.

    Args:
        data: What a user may pass as data, raw or as Batches.
        signature: The model's inputs.

    Raises:
        BatchError: If it is no data, there is no batch (a rank's part may have none), or one does not fit the
            model's inputs, or is made differently from the first.
    """
    batches, kinds = as_batches(data), dict[str, str]()
    has_any = False
    for number, batch in zip(range(batches.rank, _MANY, batches.world_size), batches, strict=False):
        try:
            example = signature.call(batch, batches.has_label)
        except BatchError as error:
            raise BatchError(f"Batch {number}: {error.what}", remedy=error.remedy) from error
        found = signature.kinds(example)
        kinds = kinds or found
        if found != kinds:
            name = next(name for name in found if found[name] != kinds[name])
            raise BatchError(
                f"Batch {number} gives '{name}' {found[name]}, the first batch {kinds[name]}.",
                remedy="Yield batches that are made alike.",
            )
        has_any = True
        yield example
    if not has_any and batches.world_size == 1:
        raise no_batch()


def first_call(model: object, data: object) -> tuple[Example, Batches]:
    """Return the call of a float model that the first batch stands for, and data that begins with it again.

    Raises:
        BatchError: If it is no data, there is no batch, or it does not fit the model's forward.
    """
    batches = as_batches(data)
    iterator = iter(batches)
    try:
        first = next(iterator)
    except StopIteration:
        raise no_batch() from None
    example = batch_call(model, first, batches.has_label)
    if batches.is_repeatable():
        return example, batches
    return example, Batches(chain((first,), iterator), has_label=batches.has_label)


def no_batch() -> BatchError:
    """Return the error for data without batches."""
    return BatchError(
        "The data holds no batch.",
        remedy="Pass a list or DataLoader; a generator that was used up before gives nothing again.",
    )


def _told(error: Exception) -> str:
    """Return an error's first line, and the last one where a worker puts what was raised there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(dict.fromkeys([*lines[:1], *lines[-1:]]))
    return f"{type(error).__name__}: {text}".removesuffix(".").removesuffix(": ")


_MANY = sys.maxsize
