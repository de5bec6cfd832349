"""collect_together: one pass over the data by all processes of a job, which end with the same statistics."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import fx
from torch.utils.data import DataLoader, RandomSampler

from fxquant.calibration.batches import Batches, as_batches, no_batch
from fxquant.calibration.checkpoint import Checkpoint
from fxquant.calibration.collect import collect
from fxquant.calibration.fingerprint import fingerprint_of
from fxquant.calibration.loaders import Loader
from fxquant.calibration.merging import Part, broadcast_bytes, merge_parts
from fxquant.calibration.offload import Offload
from fxquant.calibration.sharding import sharded
from fxquant.calibration.statistics import Statistics
from fxquant.calibration.team import DEFAULT_TIMEOUT, Team
from fxquant.calibration.weights import check_weights
from fxquant.errors import OptionError
from fxquant.graph import Example
from fxquant.storage import releasing

_Remember = Callable[[Example], None] | None


@dataclass(frozen=True, kw_only=True)
class Job:
    """How the processes of a torch.distributed job share the work.

    Attributes:
        shard: Whether each takes its part of the batches, every N-th; False where each is given batches of
            its own.
        timeout: Seconds that a process may take for one batch before the others give it up.
    """

    shard: bool = True
    timeout: float = DEFAULT_TIMEOUT

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise OptionError(f"A timeout of {self.timeout} s.", remedy="Pass a number above 0.")

    def is_joined(self) -> bool:
        """Whether this process is one of several: a process group is initialized."""
        return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def collect_alone(
    gm: fx.GraphModule,
    batches: object,
    statistics: Statistics,
    *,
    checkpoint: Path | None = None,
    progress: bool = True,
    remember: _Remember = None,
    offload: Offload | None = None,
) -> None:
    """Add what this process alone sees of all batches to statistics, however it ends.

    Raises:
        BatchError: If there is no batch.
        FxQuantError: As ``collect``.
    """
    data, keeper = as_batches(batches), None
    if checkpoint is not None:
        _require_order(data)
        with releasing(gm):
            keeper = Checkpoint(path=checkpoint, fingerprint=fingerprint_of(gm, statistics))
    part = Part(
        statistics=statistics if keeper is None else Statistics(statistics.kinds),
        start=data.rank,
        step=data.world_size,
    )
    try:
        collect(gm, data, part, checkpoint=keeper, progress=progress, remember=remember, offload=offload)
    finally:
        if part.statistics is not statistics:
            statistics.merge(part.statistics)
    if not part.numbers:
        raise no_batch()
    if keeper is not None:
        keeper.finish(part)


def collect_together(
    gm: fx.GraphModule,
    batches: object,
    statistics: Statistics,
    job: Job,
    *,
    checkpoint: Path | None = None,
    progress: bool = True,
    remember: _Remember = None,
    offload: Offload | None = None,
) -> None:
    """Add what all processes of the job see of their parts of the batches to statistics, the same on all.

    Whichever process fails or is interrupted, all end, with the same error, or KeyboardInterrupt and the
    statistics until then.

    Args:
        gm: The prepared model.
        batches: The data, equal on all processes, unless it is sharded already.
        statistics: What to add to.
        job: How they share the work.
        checkpoint: See ``Checkpoint``.
        progress: Whether rank 0 shows a progress bar.
        remember: Is given the job's first batch; None where it is not wanted.
        offload: See ``collect``; the timeout is then that for all batches through one block.

    Raises:
        BatchError: If there is no batch on any process.
        DistributedError: If a process is lost, or fails with an error of its own.
        FxQuantError: As ``collect``.
    """
    with releasing(gm):
        fingerprint = fingerprint_of(gm, statistics)
        team = Team(job.timeout, fingerprint)
    is_shared = job.shard and not _is_sharded(batches)
    part = Part(statistics=Statistics(statistics.kinds), start=team.rank, step=team.size)
    keeper = None
    if checkpoint is not None:
        keeper = Checkpoint(
            path=checkpoint,
            fingerprint=fingerprint,
            rank=team.rank,
            world_size=team.size,
            is_shared=is_shared,
        )
    first: list[Example] = []

    def work() -> str:
        with releasing(gm):
            check_weights(gm)
        collect(
            gm,
            sharded(batches, team.rank, team.size) if job.shard else batches,
            part,
            checkpoint=keeper,
            progress=progress and team.rank == 0,
            remember=first.append,
            tick=team.tick,
            offload=offload,
        )
        return "has a batch" if first else ""

    results, is_interrupted = team.run(work)
    keeps = keeper is not None and not is_interrupted
    whole = merge_parts(part, job.timeout, keeper.finish if keeper and keeps else lambda whole: None)
    statistics.merge(whole.statistics)
    if is_interrupted:
        raise KeyboardInterrupt
    if not whole.numbers:
        raise no_batch()
    source = next((rank for rank in results if results[rank]), None)
    if remember is not None and source is not None:
        remember(_broadcast(first, source, job.timeout))


def _is_sharded(data: object) -> bool:
    """Whether data gives each process its part by itself: a DataLoader whose sampler knows of ranks."""
    source = as_batches(data).source
    return isinstance(source, DataLoader) and Loader(loader=source).is_sharded


def _broadcast(first: list[Example], source: int, timeout: float) -> Example:
    """Return the first batch of a process, on all of them, on the device of their own."""
    file = io.BytesIO()
    if dist.get_rank() == source:
        torch.save(first[0], file)
    message = broadcast_bytes(file.getvalue(), source, timedelta(seconds=timeout))
    own = [tensor.device for example in first for tensor in example.tensors()]
    device = own[0] if own else torch.device("cpu")
    example = torch.load(
        io.BytesIO(message), map_location=device, weights_only=False
    )  # from a process of ours
    assert isinstance(example, Example)
    return example


def _require_order(data: Batches) -> None:
    """Check that a later run gets the same batches in the same order, as far as that is known.

    Raises:
        OptionError: If a DataLoader shuffles.
    """
    loader = data.source
    if data.world_size == 1 and isinstance(loader, DataLoader) and isinstance(loader.sampler, RandomSampler):
        raise OptionError(
            "A checkpoint cannot tell which batches of a DataLoader that shuffles were seen.",
            remedy="Pass DataLoader(..., shuffle=False), or no checkpoint.",
        )
