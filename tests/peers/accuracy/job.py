"""A way that a tool quantizes a model, and the tool."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.accuracy.cases import Case
from benchmarks.models import Batch


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of docs/accuracy.md.

    Attributes:
        setting: A key of benchmarks.accuracy.settings.SETTINGS.
        recipe: The tool's own name of the method.
        quantize: Quantizes the case's model, which it may not change, and returns the simulated forward. It is
            timed.
    """

    setting: str
    recipe: str
    quantize: Callable[[Case], Callable[[Batch], object]]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A tool: its name and version, and what it is measured with on a model."""

    title: str
    jobs: Callable[[str], Iterator[Job]]
