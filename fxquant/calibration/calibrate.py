"""calibrate_graph: find the range of every quantizer of a prepared model from data."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import fx

from fxquant.calibration.apply import apply
from fxquant.calibration.choices import Choices
from fxquant.calibration.distributed import Job, collect_alone, collect_together
from fxquant.calibration.interpreter import CalibrationInterpreter
from fxquant.calibration.offload import Offload
from fxquant.calibration.signature import Signature
from fxquant.calibration.sites import activation_sites, weight_sites
from fxquant.calibration.statistics import Statistics
from fxquant.calibration.tensor_statistics import Kind
from fxquant.calibration.weights import check_weights
from fxquant.calibration.wrapped import whole
from fxquant.errors import StatisticsError
from fxquant.graph import Example, Stage, get_record, set_record
from fxquant.graph.copying import check_values
from fxquant.graph.fresh import rows_of
from fxquant.storage import releasing

_FEW = 2  # rows that are enough to export with


def calibrate_graph(
    gm: fx.GraphModule,
    batches: object,
    choices: Choices,
    *,
    checkpoint: Path | None = None,
    progress: bool = True,
    job: Job = Job(),  # noqa: B008  # frozen
    offload: Offload | None = None,
) -> Statistics:
    """Run batches through a prepared model in float, set the range of every quantizer, return what was seen.

    Ranges are written once, at the end: an error leaves the model as it was. KeyboardInterrupt sets those of
    the batches before, and goes on its way.

    Args:
        gm: What ``prepare`` returned.
        batches: The data.
        choices: The method of each tensor.
        checkpoint: See ``collect``.
        progress: See ``collect``.
        job: How the processes of a distributed job share the work.
        offload: See ``collect``.

    Raises:
        ModelTypeError: If gm is not a prepared model.
        OptionError: If an override fits nothing.
        BatchError: If there is no batch, or one does not fit the model.
        NonFiniteError: If NaN or Inf shows up where a range is measured.
        StatisticsError: If the checkpoint does not belong to the model.
        DistributedError: If another process of the job is lost.
    """
    get_record(gm, Stage.PREPARED)
    choices.check(activation_sites(gm), weight_sites(gm))
    with whole(gm):
        return _calibrated(gm, batches, choices, checkpoint, progress, job, offload)


def collect_graph(
    gm: fx.GraphModule,
    batches: object,
    kinds: Iterable[Kind],
    *,
    into: Statistics | None = None,
    checkpoint: Path | None = None,
    progress: bool = True,
    job: Job = Job(),  # noqa: B008  # frozen
    offload: Offload | None = None,
) -> Statistics:
    """Collect statistics as ``collect`` does, with all processes of a job, and remember the first batch.

    Args:
        gm: The prepared model.
        batches: The data.
        kinds: The kinds of statistics wanted.
        into: Statistics to add to; None for fresh ones.
        checkpoint: See ``collect``.
        progress: See ``collect``.
        job: How the processes of a distributed job share the work.
        offload: See ``collect``.

    Raises:
        ModelTypeError: If gm is not a prepared model.
        BatchError, NonFiniteError, StatisticsError: As ``collect``; also if there is no batch.
        DistributedError: If another process of the job is lost.
    """
    record = get_record(gm, Stage.PREPARED)
    statistics = into if into is not None else Statistics(kinds)
    _check_kinds(statistics, kinds)
    check_values(gm)
    first: list[Example] = []
    remember = first.append if record.example is None else None
    if job.is_joined():
        collect_together(
            gm,
            batches,
            statistics,
            job,
            checkpoint=checkpoint,
            progress=progress,
            remember=remember,
            offload=offload,
        )
    else:
        with releasing(gm):
            check_weights(gm)
        collect_alone(
            gm,
            batches,
            statistics,
            checkpoint=checkpoint,
            progress=progress,
            remember=remember,
            offload=offload,
        )
    if first:
        small, whole = _copied(first[0], _FEW), first[0]
        set_record(gm, replace(record, example=small if _runs(gm, small) else _copied(whole, None)))
    return statistics


def uncalibrated_layers(gm: fx.GraphModule) -> list[str]:
    """Return the names of quantized tensors and layers whose quantizer has no range, in graph order."""
    activations = [(site.name, site.quantizer) for site in activation_sites(gm)]
    weights = [(site.layer, site.quantizer) for site in weight_sites(gm)]
    return list(dict.fromkeys(name for name, q in activations + weights if not q.has_range()))


def _calibrated(
    gm: fx.GraphModule,
    batches: object,
    choices: Choices,
    checkpoint: Path | None,
    progress: bool,
    job: Job,
    offload: Offload | None,
) -> Statistics:
    statistics = Statistics(choices.kinds)
    try:
        collect_graph(
            gm,
            batches,
            choices.kinds,
            into=statistics,
            checkpoint=checkpoint,
            progress=progress,
            job=job,
            offload=offload,
        )
    except KeyboardInterrupt:
        if statistics.num_batches:
            apply(gm, statistics, choices)
        raise
    with releasing(gm):
        apply(gm, statistics, choices)
    return statistics


def _check_kinds(statistics: Statistics, kinds: Iterable[Kind]) -> None:
    missing = sorted(kind.value for kind in frozenset(kinds) - statistics.kinds)
    if missing:
        raise StatisticsError(
            f"The statistics to add to hold nothing of the kind '{missing[0]}'.",
            remedy="Begin with new ones, or ask for the methods that they were begun for.",
        )


def _runs(gm: fx.GraphModule, example: Example) -> bool:
    """Whether the model runs on a call: where its batch size is fixed, not on another one."""
    try:
        with torch.no_grad(), releasing(gm):
            CalibrationInterpreter(gm).run_all(*Signature(gm).bind(example).values())
    except Exception:  # whatever the model raises
        return False
    return True


def _copied(example: Example, most: int | None) -> Example:
    """Return copies of a call's arguments, cut to the first rows where ``most`` is given."""
    rows = rows_of(example)

    def kept(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        has_rows = value.dim() > 0 and value.shape[0] == rows
        return (value[:most] if has_rows else value).detach().clone()

    return Example(
        args=tuple(kept(value) for value in example.args),
        kwargs={name: kept(value) for name, value in example.kwargs.items()},
    )
