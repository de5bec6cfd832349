"""Source: batches that can be gone through, all of them or every nth, whatever they are kept in."""

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from inspect import GEN_CLOSED, getgeneratorstate, isgenerator
from itertools import islice
from typing import Protocol

from fxquant.errors import BatchError


class Source(Protocol):
    """Batches in an order."""

    @property
    def length(self) -> int | None:
        """The number of batches; None where only going through them tells."""

    @property
    def is_repeatable(self) -> bool:
        """Whether they can be gone through again."""

    def run(self, start: int, stop: int | None, step: int) -> Iterator[object]:
        """Yield the batches of a slice, in order."""


@dataclass(frozen=True, kw_only=True)
class Indexed:
    """Batches that are loaded one by one, by number: those of other ranks are never touched.

    Attributes:
        length: How many there are.
        load: Loads one.
    """

    length: int
    load: Callable[[int], object]
    is_repeatable: bool = True

    def run(self, start: int, stop: int | None, step: int) -> Iterator[object]:
        """Yield the batches of a slice, in order."""
        return (self.load(index) for index in range(*slice(start, stop, step).indices(self.length)))


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Batches that come one after the other: those of other ranks are passed over.

    Attributes:
        begin: Starts a pass.
        length: How many there are; None where that is not known.
        is_repeatable: Whether a second pass gives them again.
    """

    begin: Callable[[], Iterator[object]]
    length: int | None = None
    is_repeatable: bool = True

    def run(self, start: int, stop: int | None, step: int) -> Iterator[object]:
        """Yield the batches of a slice, in order."""
        return islice(self.begin(), start, stop, step)


def stream(batches: Iterable[object]) -> Stream:
    """Return an iterable as a source; what is an iterator can be gone through once."""
    return Stream(
        begin=_Once(batches) if isinstance(batches, Iterator) else lambda: iter(batches),
        length=sized(batches),
        is_repeatable=not isinstance(batches, Iterator),
    )


def sized(batches: object) -> int | None:
    """Return the length of what has one."""
    try:
        return len(batches) if isinstance(batches, Sized) else None
    except TypeError:  # a DataLoader over an iterable data set has __len__, and no length
        return None


class _Once:
    """Starts the only pass over an iterator."""

    def __init__(self, iterator: Iterator[object]) -> None:
        self._iterator = iterator
        self._was_used = isgenerator(iterator) and getgeneratorstate(iterator) == GEN_CLOSED

    def __call__(self) -> Iterator[object]:
        if self._was_used:
            kind = "a generator" if isgenerator(self._iterator) else f"a {type(self._iterator).__name__}"
            raise BatchError(
                f"The data holds no batch any more: it is {kind} that was used up before.",
                remedy="Pass the function that makes it, a list or a DataLoader.",
            )
        self._was_used = True
        return self._iterator
