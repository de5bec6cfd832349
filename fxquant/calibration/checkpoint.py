"""Checkpoint: the files that keep what a run has seen, in case it ends early."""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from fxquant.calibration.merging import Part
from fxquant.calibration.statistics import load_statistics
from fxquant.errors import ExportError, StatisticsError
from fxquant.files import write_atomically

log = logging.getLogger(__name__)

_SAVE_EVERY = 60.0  # seconds between two writes
_NUMBERS, _MODEL = "numbers", "model"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The files of a run: one, and in a distributed job one more per process while it lasts.

    A process writes its own file, ``NAME.rank1-of-4``; at the end rank 0 writes ``NAME`` and the others go.
    Each file holds statistics and the numbers of the batches they are of, so that a run may go on with
    another number of processes, also one: rank 0 takes what is left of processes that are no more.

    Attributes:
        path: The file, in a folder that all processes share.
        fingerprint: A text that tells the model apart from others.
        rank: Number of this process.
        world_size: Number of processes.
        is_shared: Whether they share out one sequence of batches. Where each has batches of its own, their
            numbers mean nothing to another number of processes.
    """

    path: Path
    fingerprint: str
    rank: int = 0
    world_size: int = 1
    is_shared: bool = True

    def resume(self, part: Part) -> set[int]:
        """Add to a part what is this process's to go on with.

        Returns:
            The numbers of the batches that any process has seen.

        Raises:
            StatisticsError: If a file cannot be read, does not fit, or two files overlap.
        """
        seen: set[int] = set()
        for file, numbers in sorted(self._found().items(), key=lambda found: (-len(found[1]), found[0])):
            if numbers <= seen:
                continue  # it was made part of another one before the run ended
            if numbers & seen:
                raise StatisticsError(
                    f"'{file}' and other files of the checkpoint have both seen batch {min(numbers & seen)}.",
                    remedy=f"Remove the files '{self.path.name}*' to begin anew.",
                )
            seen |= numbers
            if _model(file) != self.fingerprint:
                raise StatisticsError(
                    f"'{file}' is the checkpoint of another model, or of one with other weights or methods.",
                    remedy=f"Remove the files '{self.path.name}*' to begin anew.",
                )
            if not self.is_shared and file != self.path and not self._is_of_now(file):
                raise StatisticsError(
                    f"'{file}' is of another number of processes, each with data of its own.",
                    remedy=f"Run as many again, or remove the files '{self.path.name}*' to begin anew.",
                )
            if self._is_mine(file):
                log.info("going on from '%s', which has seen %d batches", file, len(numbers))
                part.merge(Part(statistics=load_statistics(file), numbers=numbers))
        return seen

    @contextlib.contextmanager
    def keeping(self, part: Part) -> Iterator["Saver"]:
        """Save a part now and then, and at the end, however it comes."""
        saver = Saver(part, self._own(), self.fingerprint)
        try:
            yield saver
        except BaseException:
            try:
                saver.save()
            except ExportError as error:  # what ended the run says more
                log.warning("the checkpoint was not written: %s", error)
            raise
        saver.save()

    def finish(self, whole: Part) -> None:
        """Write the whole, then remove the files of single processes."""
        Saver(whole, self.path, self.fingerprint).save()
        for file in self._of_processes():
            file.unlink(missing_ok=True)

    def _own(self) -> Path:
        if self.world_size == 1:
            return self.path
        return self.path.with_name(f"{self.path.name}.rank{self.rank}-of-{self.world_size}")

    def _is_mine(self, file: Path) -> bool:
        return file == self._own() if self._is_of_now(file) else self.rank == 0

    def _is_of_now(self, file: Path) -> bool:
        """Whether it is the file of one of as many processes as there are now."""
        return file != self.path and file.name.endswith(f"-of-{self.world_size}")

    def _of_processes(self) -> list[Path]:
        start = f"{self.path.name}.rank"
        return sorted(
            file for file in self.path.parent.iterdir() if file.name.startswith(start) and "-of-" in file.name
        )

    def _found(self) -> dict[Path, set[int]]:
        """Return the files there are, and the numbers of the batches each has seen."""
        if not self.path.parent.is_dir():
            return {}
        files = [*([self.path] if self.path.exists() else []), *self._of_processes()]
        return {file: _numbers(file) for file in files}


class Saver:
    """Writes a part to a file.

    Args:
        part: What was seen; it grows.
        file: The file.
        fingerprint: What tells the model apart.
    """

    def __init__(self, part: Part, file: Path, fingerprint: str) -> None:
        self._part, self._file, self._fingerprint = part, file, fingerprint
        self._last = time.monotonic()

    def save_now_and_then(self) -> None:
        """Save, unless that was less than a minute ago."""
        if time.monotonic() - self._last > _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Save, if anything was seen.

        Raises:
            ExportError: If it cannot be written.
        """
        if not self._part.numbers:
            return
        numbers = torch.tensor(sorted(self._part.numbers), dtype=torch.int64)
        values = self._part.statistics.to_dict() | {_NUMBERS: numbers, _MODEL: self._fingerprint}
        write_atomically(self._file, lambda temporary: torch.save(values, temporary))
        self._last = time.monotonic()


def _model(file: Path) -> object:
    """Return the fingerprint of the model whose statistics a file holds."""
    return torch.load(file, map_location="cpu", weights_only=True, mmap=True).get(_MODEL)


def _numbers(file: Path) -> set[int]:
    """Return the numbers of the batches that a file has seen; of statistics saved alone, the first ones."""
    try:
        values = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        numbers = values.get(_NUMBERS)
        return set(range(int(values["num_batches"]))) if numbers is None else set(numbers.tolist())
    except Exception:  # torch raises whatever the bytes lead to
        load_statistics(file)  # says so
        raise
