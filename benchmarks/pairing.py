"""A job over many batches, paired with the float forward batch by batch.

A job of seconds drifts with the machine's clock and its neighbours. So the float forward of a batch runs
right before the job takes that batch: both see the same seconds.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.models import Batch


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A job's processor time over the float forward's, in each round."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """The widest difference between two rounds, as a part of the median."""
        return (max(self.rounds) - min(self.rounds)) / self.median


def paired_ratio(
    job: Callable[["Paired"], object],
    forward: Callable[[Batch], object],
    batches: Sequence[Batch],
    rounds: int,
) -> Ratio:
    """Return the time of a job over batches, in float forwards of the same batches.

    Args:
        job: Takes the batches by iterating over them, once or several times.
        forward: Runs the float model on one batch.
        batches: What job sees.
        rounds: How often all of it is done.
    """
    job(Paired([batches[0]], forward))  # the first call sets things up
    return Ratio(rounds=tuple(_ratio(job, Paired(batches, forward)) for _ in range(rounds)))


@dataclass
class Paired:
    """Batches that run the float model before they are handed out."""

    batches: Sequence[Batch]
    forward: Callable[[Batch], object]
    passes: list[float] = field(default_factory=list)  # seconds of the float forwards

    def __iter__(self) -> Iterator[Batch]:
        self.passes.append(0.0)
        own = len(self.passes) - 1
        for batch in self.batches:
            start = time.process_time()
            self.forward(batch)
            self.passes[own] += time.process_time() - start
            yield batch

    def __len__(self) -> int:
        return len(self.batches)


def _ratio(job: Callable[[Paired], object], paired: Paired) -> float:
    start = time.process_time()
    job(paired)
    seconds = time.process_time() - start
    return (seconds - sum(paired.passes)) / statistics.mean(paired.passes)
