"""run_job: real processes with a gloo group, and what each returned or raised."""

import contextlib
import multiprocessing
import pickle
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

PATIENCE = 300  # seconds for a whole job


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a process returned, or raised; neither where it was killed."""

    result: Any = None
    error: BaseException | None = None
    exit_code: int | None = None


def run_job(world_size, folder, function, *arguments):
    """Run ``function(rank, folder, *arguments)`` in processes of their own; return their outcomes by rank."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([function.__module__])  # imported once, not by every process
    processes = [
        context.Process(target=_run, args=(rank, world_size, folder, function, arguments))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
    return [_outcome(folder / f"outcome{rank}", process) for rank, process in enumerate(processes)]


def _outcome(file, process):
    if not file.exists():
        return Outcome(exit_code=process.exitcode)
    result, error = pickle.loads(file.read_bytes())
    return Outcome(result=result, error=error, exit_code=process.exitcode)


def _run(rank, world_size, folder, function, arguments):
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/group",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=60),
    )
    result, error = None, None
    try:
        result = function(rank, folder, *arguments)
    except BaseException as raised:
        error = raised
    (folder / f"outcome{rank}").write_bytes(pickle.dumps((result, error)))
    with contextlib.suppress(RuntimeError):
        dist.destroy_process_group()
