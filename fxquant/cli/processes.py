"""process_group: the processes that torchrun started, for as long as a command runs."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

import click
import torch
import torch.distributed as dist

from fxquant.errors import DistributedError, FxQuantError

_TERMINATED = 128 + signal.SIGTERM


@contextlib.contextmanager
def process_group() -> Iterator[bool]:
    """Join the other processes that torchrun started, if it did; give whether this is the first one.

    Statistics travel by gloo, between GPUs too. When torchrun ends a process because another one was lost, a
    checkpoint is still saved. Errors are the same on all processes: only the first one writes them, but for
    the loss of another.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or not dist.is_available() or dist.is_initialized():
        yield True
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    is_first = dist.get_rank() == 0
    before = signal.signal(signal.SIGTERM, _end)
    try:
        yield is_first
    except FxQuantError as error:
        if is_first or isinstance(error, DistributedError):
            raise
        raise click.exceptions.Exit(1) from error
    finally:
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(_TERMINATED)
