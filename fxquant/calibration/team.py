"""Team: the processes of a torch.distributed job that calibrate together, and how they end together."""

import itertools
import json
import time
from collections.abc import Callable
from typing import NoReturn

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore

from fxquant import errors
from fxquant.errors import DistributedError, FxQuantError, first_line

DEFAULT_TIMEOUT = 300.0
"""Seconds that a process may take for one batch before the others give it up."""

_TICK = 0.5  # seconds between two looks at what the others say
_POLL = 0.05
_JOBS = itertools.count()  # every process calibrates as often as the others


class Team:
    """What the processes of a job tell each other while each goes through its batches.

    They speak through the key-value store that the process group came up with: no collective is pending while
    the processes work, so none can hang in one, and after an error the process group is as usable as before.
    Each process marks its batches; it waits for the others at the end, as long as they go on marking.

    Args:
        timeout: Seconds that a process may take for one batch, positive.
        fingerprint: A text that is equal on all of them if they calibrate the same model.
    """

    def __init__(self, timeout: float, fingerprint: str) -> None:
        self.rank, self.size, self.timeout = dist.get_rank(), dist.get_world_size(), timeout
        store = dist.distributed_c10d._get_default_store()  # there is no public way to it
        self._store = PrefixStore(f"fxquant/{next(_JOBS)}", store)
        self._count, self._ticked = 0, 0.0
        self._set(f"model/{self.rank}", fingerprint)

    def run(self, work: Callable[[], str]) -> tuple[dict[int, str], bool]:
        """Do the work of this process, and wait until all others have done theirs.

        Returns:
            What every process's work returned, by rank, "" where it was interrupted; and whether one was.

        Raises:
            FxQuantError: The same on all processes: that of the first one that failed, named by its rank.
            DistributedError: The same, where it failed with another error, or was lost.
        """
        result = ""
        try:
            result = work()
        except KeyboardInterrupt:
            self._set("stop", str(self.rank))
        except _ToldToStop:
            pass
        except _ToldOfFailure:
            self._leave(None)
        except DistributedError:
            raise  # the store is gone
        except Exception as error:
            self._fail(_fields(error, self.rank), error)
        self._set(f"end/{self.rank}", result)
        results = {rank: self._wait_for(rank) for rank in range(self.size)}
        for rank in range(self.size):
            self._check_model(rank, 0)
        return results, self._has("stop")

    def tick(self) -> None:
        """Say that a batch is done, and look now and then whether others failed or were interrupted."""
        self._count += 1
        if time.monotonic() - self._ticked < _TICK:
            return
        self._ticked = time.monotonic()
        self._set(f"mark/{self.rank}", str(self._count))
        if self._has("failure"):
            raise _ToldOfFailure
        if self._has("stop"):
            raise _ToldToStop
        self._check_model(self.rank, 0)

    def _wait_for(self, rank: int) -> str:
        """Return what another process's work returned, once it has."""
        mark, since = "", time.monotonic()
        while not self._has(f"end/{rank}"):
            if self._has("failure"):
                self._leave(None)
            latest = self._get(f"mark/{rank}")
            if latest != mark:
                mark, since = latest, time.monotonic()
            elif time.monotonic() - since > self.timeout:
                self._fail(_fields(self._lost(rank, mark), rank) | {"lost": rank}, None)
            time.sleep(_POLL)
        return self._get(f"end/{rank}")

    def _lost(self, rank: int, mark: str) -> DistributedError:
        last = f"after {mark} of its batches" if mark else "before its first batches were done"
        return DistributedError(
            f"It was lost {last}: it has shown no progress for {self.timeout:g} s.",
            remedy="See what that process wrote last. Where one batch may take longer, raise the timeout.",
        )

    def _check_model(self, rank: int, other: int) -> None:
        ours, theirs = self._get(f"model/{rank}"), self._get(f"model/{other}")
        if theirs and ours != theirs:
            raise errors.StatisticsError(
                f"Rank {rank} calibrates another model than rank {other}, or with other methods.",
                remedy="Load the same weights and seed random ones equally on every process.",
            )

    def _fail(self, fields: dict[str, object], cause: Exception | None) -> NoReturn:
        """Tell all others of a failure, unless another one came first, and leave with them."""
        if self._store.add("failures", 1) == 1:
            self._set("failure", json.dumps(fields))
        self._leave(cause)

    def _leave(self, cause: Exception | None) -> NoReturn:
        """Raise the failure once all know of it: a process that ends may take the store, or others, along."""
        start = time.monotonic()
        while not self._has("failure") and time.monotonic() - start < self.timeout:
            time.sleep(_POLL)  # its process is about to write it
        fields = json.loads(self._get("failure") or "{}")
        error = _error_of(fields)
        self._set(f"known/{self.rank}", "")
        for rank in set(range(self.size)) - {fields.get("lost")}:
            while not self._knows(rank) and time.monotonic() - start < self.timeout:
                time.sleep(_POLL)
        raise error from cause

    def _knows(self, rank: int) -> bool:
        try:
            return self._has(f"known/{rank}")
        except DistributedError:
            return True  # whoever holds the store has left: there is nobody to wait for

    def _has(self, key: str) -> bool:
        try:
            return bool(self._store.check([key]))
        except RuntimeError as error:
            raise _store_is_gone(error) from error

    def _get(self, key: str) -> str:
        """Return a text of the store; "" where there is none."""
        try:
            return self._store.get(key).decode() if self._store.check([key]) else ""
        except RuntimeError as error:
            raise _store_is_gone(error) from error

    def _set(self, key: str, value: str) -> None:
        try:
            self._store.set(key, value)
        except RuntimeError as error:
            raise _store_is_gone(error) from error


class _ToldToStop(BaseException):
    """Another process was interrupted."""


class _ToldOfFailure(BaseException):
    """Another process failed."""


def error_fields(error: Exception) -> dict[str, object]:
    """Return an error as plain values."""
    if isinstance(error, FxQuantError):
        kind = type(error).__name__
        return {"kind": kind, "what": error.what, "layer": error.layer, "remedy": error.remedy}
    what = f"{type(error).__name__}: {first_line(error)}."
    return {"kind": "DistributedError", "what": what, "layer": None, "remedy": ""}


def error_of(fields: dict[str, object]) -> FxQuantError:
    """Return the error that ``error_fields`` was called on."""
    kind = getattr(errors, str(fields["kind"]), DistributedError)
    layer, remedy = fields["layer"], str(fields["remedy"])
    found: FxQuantError = kind(
        str(fields["what"]), layer=None if layer is None else str(layer), remedy=remedy
    )
    return found


def _fields(error: Exception, rank: int) -> dict[str, object]:
    fields = error_fields(error)
    what = str(fields["what"])
    return fields | {"what": what if what.startswith("Rank ") else f"Rank {rank}: {what}"}


def _error_of(fields: dict[str, object]) -> FxQuantError:
    if not fields:
        return DistributedError("A process failed and was lost before it could say why.")
    return error_of(fields)


def _store_is_gone(error: RuntimeError) -> DistributedError:
    return DistributedError(
        f"The process that holds the job's store, usually rank 0, is gone: {first_line(error)}.",
        remedy="See what that process wrote last, and run again: a checkpoint goes on where it stopped.",
    )
