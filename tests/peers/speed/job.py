"""A tool and what it is measured on."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import nn

from benchmarks.models import Batch, run


@dataclass(frozen=True, kw_only=True)
class Job:
    """Something a tool does with batches; what comes before, such as inserting observers, is not timed.

    Attributes:
        measure: A key of benchmarks.peers.MEASURES.
        note: The tool's own name of the method.
        run: Does it.
    """

    measure: str
    note: str
    run: Callable[[Iterable[Batch]], object]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A tool.

    Attributes:
        title: Its name and version.
        jobs: Returns its jobs for a float model and a batch, each set up when its turn comes; it may change
            the model.
        float_forward: Returns the tool's own float forward of a model.
    """

    title: str
    jobs: Callable[[nn.Module, Batch], Iterator[Job]]
    float_forward: Callable[[nn.Module, Batch], Callable[[Batch], object]] = lambda model, _: (
        lambda batch: run(model, batch)
    )


def run_all(model: nn.Module, batches: Iterable[Batch]) -> None:
    for batch in batches:
        run(model, batch)
