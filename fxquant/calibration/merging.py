"""merge_parts: what each process of a job has seen becomes the whole, the same on all of them."""

import io
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from fxquant.calibration.statistics import Statistics
from fxquant.calibration.team import error_fields, error_of
from fxquant.errors import DistributedError, FxQuantError, StatisticsError, first_line


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one process, or several, have seen.

    Attributes:
        statistics: What was seen of the tensors.
        numbers: The numbers of the batches.
        start: The number of the first batch of the process.
        step: How the numbers of its batches go on: by the number of processes.
    """

    statistics: Statistics
    numbers: set[int] = field(default_factory=set)
    start: int = 0
    step: int = 1

    def numbering(self) -> Iterator[int]:
        """Yield the numbers of the batches of the process, without end."""
        return itertools.count(self.start, self.step)

    def merge(self, other: "Part") -> None:
        """Add what others have seen.

        Raises:
            StatisticsError: If a batch is in both, or the statistics do not belong together.
        """
        twice = self.numbers & other.numbers
        if twice:
            raise StatisticsError(
                f"Two processes have seen batch {min(twice)}.",
                remedy="Keep a checkpoint in a folder that all machines share, or begin without it.",
            )
        self.statistics.merge(other.statistics)
        self.numbers.update(other.numbers)


def merge_parts(part: Part, timeout: float, finish: Callable[[Part], None]) -> Part:
    """Return the whole of the parts of all processes, equal to the last bit on all.

    The parts are added in pairs, then pairs of pairs: no process ever holds more than two, and there are
    log2(processes) rounds. The whole goes from rank 0 to all others: 33 kB for the histogram of a tensor.

    Args:
        part: What this process has seen.
        timeout: Seconds to wait for another process in each round.
        finish: Rank 0 calls it with the whole before the others are given it.

    Raises:
        DistributedError: If another process is lost meanwhile.
        FxQuantError: The same on all processes, if parts do not belong together, or ``finish`` raises it.
    """
    rank, size = dist.get_rank(), dist.get_world_size()
    wait = timedelta(seconds=timeout)
    message = _written(part)
    try:
        step = 1
        while step < size and rank % (2 * step) == 0:
            if rank + step < size:
                message = _added(message, _receive(rank + step, wait))
            step *= 2
        if rank:
            _send(message, rank - step, wait)
        else:
            message = _finished(message, finish)
        return _read(broadcast_bytes(message, 0, wait))
    except FxQuantError:
        raise
    except RuntimeError as error:  # what the backends raise for a peer that is lost
        raise DistributedError(
            f"A process was lost while the statistics were merged: {first_line(error)}.",
            remedy="See what the others wrote last, and run again: a checkpoint goes on where it stopped.",
        ) from error


def broadcast_bytes(message: bytes, source: int, wait: timedelta) -> bytes:
    """Return the bytes that the process ``source`` has; what the others pass is not looked at."""
    is_source = dist.get_rank() == source
    size = torch.tensor([len(message)], device=_device())
    _finish(dist.broadcast(size, source, async_op=True), wait)
    data = _tensor(message) if is_source else torch.empty(int(size), dtype=torch.uint8, device=_device())
    _finish(dist.broadcast(data, source, async_op=True), wait)
    return message if is_source else _bytes(data)


def _device() -> torch.device:
    """Return where the process group takes tensors: gloo and MPI on the CPU, NCCL and its like on the GPU.

    The only place that knows of it. The branch for the GPU has not been run yet.
    """
    backend = dist.get_backend()
    if "gloo" in backend or "mpi" in backend:
        return torch.device("cpu")
    accelerator = torch.accelerator.current_accelerator()
    assert accelerator is not None  # or there would be no such backend
    return torch.device(accelerator.type, torch.accelerator.current_device_index())


def _send(message: bytes, rank: int, wait: timedelta) -> None:
    _finish(dist.isend(torch.tensor([len(message)], device=_device()), rank), wait)
    _finish(dist.isend(_tensor(message), rank), wait)


def _receive(rank: int, wait: timedelta) -> bytes:
    size = torch.zeros(1, dtype=torch.int64, device=_device())
    _finish(dist.irecv(size, rank), wait)
    data = torch.empty(int(size), dtype=torch.uint8, device=_device())
    _finish(dist.irecv(data, rank), wait)
    return _bytes(data)


def _finish(work: Any, wait: timedelta) -> None:
    work.wait(wait)


def _tensor(message: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(message), dtype=torch.uint8).to(_device())


def _bytes(data: torch.Tensor) -> bytes:
    return data.cpu().numpy().tobytes()


def _written(part: Part) -> bytes:
    values = part.statistics.to_dict() | {"numbers": torch.tensor(sorted(part.numbers), dtype=torch.int64)}
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


def _read(message: bytes) -> Part:
    """Return a part, on the CPU; raise the error that stands in its place."""
    values = torch.load(io.BytesIO(message), map_location="cpu", weights_only=True)
    if "error" in values:
        raise error_of(json.loads(values["error"]))
    return Part(statistics=Statistics.from_dict(values), numbers=set(values["numbers"].tolist()))


def _added(message: bytes, other: bytes) -> bytes:
    try:
        part = _read(message)
        part.merge(_read(other))
    except FxQuantError as error:
        return _failed(error)
    return _written(part)


def _finished(message: bytes, finish: Callable[[Part], None]) -> bytes:
    try:
        finish(_read(message))
    except FxQuantError as error:
        return _failed(error)
    return message


def _failed(error: FxQuantError) -> bytes:
    file = io.BytesIO()
    torch.save({"error": json.dumps(error_fields(error))}, file)
    return file.getvalue()
