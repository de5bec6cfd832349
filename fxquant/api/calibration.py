"""The verbs that find ranges: calibrate; and its halves, collect_statistics and apply_statistics."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import fx

from fxquant.calibration import (
    Choices,
    Offload,
    Statistics,
    apply,
    calibrate_graph,
    collect_graph,
    method_of,
)
from fxquant.graph import Stage, get_record
from fxquant.storage import releasing


def calibrate(
    prepared: fx.GraphModule,
    batches: object,
    method: str = "minmax",
    *,
    weights: str = "minmax",
    overrides: Mapping[str, str] | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    offload: Offload | None = None,
) -> Statistics:
    """Find the range of every quantizer of a prepared model, in place, from one pass over data.

    Args:
        prepared: What ``prepare`` returned.
        batches: An iterable of batches: tensors, tuples of positional arguments, dicts of keyword
            arguments, or a DataLoader's (input, label), whose label is dropped; or arrays, a file, a function
            that makes batches, or ``fxquant.Batches`` (docs/data.md). The first one is remembered as the
            input to export with.
        method: How the range of an activation follows from what was seen: "minmax", "moving_average",
            "percentile" (99.99, or another one: "percentile:99.9"), "entropy", "mse" or "sqnr". Float types
            of 8 bits take one of the first three, otherwise min-max.
        weights: The same for parameters; each channel or block has a range of its own.
        overrides: Other methods by tensor or layer: {"layer4.*": "mse", "fc.weight": "sqnr"}. The last
            pattern that fits counts.
        checkpoint: A file that keeps what was seen, in case the run ends early. Where it exists, the run goes
            on from it: batches that it has seen are passed over.
        progress: Whether to show a progress bar, where there is a terminal.
        offload: How to run a model that does not fit into memory, or onto a device, block by block: the
            ranges are the same, all batches count or none. None to run it as a whole.

    Returns:
        What was seen, for ``apply_statistics`` with another method, or ``save_statistics``.

    Raises:
        OptionError: If the method does not exist, or an override fits nothing.
        ModelTypeError: If it is not a prepared model.
        BatchError: If there is no batch, or the model rejects one.
        NonFiniteError: If NaN or Inf shows up; names the first layer where it did.
        StatisticsError: If the checkpoint cannot be read or belongs to another model.

    KeyboardInterrupt leaves the ranges of the batches seen until then.
    """
    return calibrate_graph(
        prepared,
        batches,
        Choices.of(method, weights, overrides),
        checkpoint=None if checkpoint is None else Path(checkpoint),
        progress=progress,
        offload=offload,
    )


def collect_statistics(
    prepared: fx.GraphModule,
    batches: object,
    methods: Iterable[str] = ("minmax",),
    *,
    into: Statistics | None = None,
    checkpoint: str | Path | None = None,
    progress: bool = True,
    offload: Offload | None = None,
) -> Statistics:
    """Return what the quantizers of a prepared model are given, from one pass over data; set no range.

    Args:
        prepared: What ``prepare`` returned.
        batches: The data, as for ``calibrate``.
        methods: The methods that the statistics are to serve. All but "minmax" and "moving_average" share
            one histogram.
        into: Statistics to add to, of an earlier run; they hold all whole batches also when this one ends
            early. None for fresh ones.
        checkpoint: As for ``calibrate``.
        progress: As for ``calibrate``.
        offload: As for ``calibrate``.

    Raises:
        OptionError: If a method does not exist.
        ModelTypeError: If it is not a prepared model.
        BatchError: If there is no batch, or the model rejects one.
        NonFiniteError: If NaN or Inf shows up; names the first layer where it did.
        StatisticsError: If the checkpoint or ``into`` belongs to another model or other methods.
    """
    kinds = {method_of(method).kind for method in methods}
    path = None if checkpoint is None else Path(checkpoint)
    return collect_graph(
        prepared, batches, kinds, into=into, checkpoint=path, progress=progress, offload=offload
    )


def apply_statistics(
    prepared: fx.GraphModule,
    statistics: Statistics,
    method: str = "minmax",
    *,
    weights: str = "minmax",
    overrides: Mapping[str, str] | None = None,
) -> None:
    """Set the range of every quantizer of a prepared model, in place, from statistics; without data.

    The statistics may come from a model that was prepared for another target, if that one quantizes the
    tensors that this one does.

    Args:
        prepared: What ``prepare`` returned.
        statistics: What ``collect_statistics``, ``calibrate`` or ``load_statistics`` returned.
        method: As for ``calibrate``.
        weights: As for ``calibrate``.
        overrides: As for ``calibrate``.

    Raises:
        OptionError: If the method does not exist, or an override fits nothing.
        ModelTypeError: If it is not a prepared model.
        StatisticsError: If they lack a tensor, or what the method needs; names it.
    """
    get_record(prepared, Stage.PREPARED)
    with releasing(prepared):
        apply(prepared, statistics, Choices.of(method, weights, overrides))
