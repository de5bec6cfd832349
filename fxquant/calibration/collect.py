"""collect: run batches through a prepared model in float, once, and gather statistics of its tensors."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import fx

from fxquant.calibration.batches import as_batches, calls_of, no_batch
from fxquant.calibration.collect_blockwise import collect_blockwise
from fxquant.calibration.collector import Collector
from fxquant.calibration.interpreter import CalibrationInterpreter, NonFiniteFinder
from fxquant.calibration.observed_model import ObservedModel
from fxquant.calibration.offload import Offload
from fxquant.calibration.progress import with_progress
from fxquant.calibration.signature import Signature
from fxquant.calibration.sites import activation_sites
from fxquant.calibration.statistics import Statistics, load_statistics, save_statistics
from fxquant.calibration.tensor_statistics import Kind
from fxquant.errors import BatchError, NonFiniteError, StatisticsError, first_line
from fxquant.graph import Example

log = logging.getLogger(__name__)

_SAVE_EVERY = 60.0  # seconds between two writes of a checkpoint


def collect(
    gm: fx.GraphModule,
    batches: object,
    kinds: Iterable[Kind],
    *,
    into: Statistics | None = None,
    checkpoint: Path | None = None,
    progress: bool = True,
    offload: Offload | None = None,
    remember: Callable[[Example], None] = lambda example: None,
) -> Statistics:
    """Run every batch through a prepared model in float; return what its quantizers were given.

    One pass over the data serves every kind of statistics. A batch counts wholly or not at all: whatever
    ends the run early, ``into`` and the checkpoint hold the batches before.

    Args:
        gm: The prepared model.
        batches: The data.
        kinds: The kinds of statistics wanted.
        into: Statistics to add to; None for fresh ones.
        checkpoint: A file to save the statistics to, every minute and at the end however it comes. Where it
            exists, its statistics go on, and the batches that it has seen are passed over.
        progress: Whether to show a progress bar where there is a terminal.
        offload: How to run the model block by block; None to run it as a whole. Block by block, all batches
            count or none.
        remember: Is given the first batch.

    Raises:
        BatchError: If there is no batch, or the model rejects one.
        NonFiniteError: If NaN or Inf shows up where a range is measured.
        StatisticsError: If the checkpoint, or ``into``, does not belong to this model and these kinds.
    """
    statistics = into if into is not None else Statistics(kinds)
    seen_before = _resumed(statistics, checkpoint)
    _check_kinds(statistics, kinds)
    signature, batches = Signature(gm), as_batches(batches)
    shown = with_progress(calls_of(batches, signature), batches, progress)
    if offload is not None:
        with _saving(statistics, checkpoint), contextlib.closing(shown) as calls:
            collect_blockwise(gm, calls, statistics, offload, passed_over=seen_before, remember=remember)
        return statistics
    sites = [site for site in activation_sites(gm) if site.quantizer.is_overwrite_allowed()]
    collector = Collector(sites, statistics)
    runner = _Runner(gm, collector, signature)
    with _saving(statistics, checkpoint) as save, runner, contextlib.closing(shown) as calls:
        index = -1
        for index, example in enumerate(calls):
            if index == 0:
                remember(example)
            if index >= seen_before:
                runner.run(example, index)
                save()
    if index < 0:
        raise no_batch()
    return statistics


class _Runner:
    """Runs batches, one by one."""

    def __init__(self, gm: fx.GraphModule, collector: Collector, signature: Signature) -> None:
        self._gm, self._collector, self._signature = gm, collector, signature
        self._model = ObservedModel(gm, collector.sites, collector.show)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> None:
        self._call = self._stack.enter_context(self._model.running())

    def __exit__(self, *error: object) -> None:
        self._collector.discard()
        self._stack.close()

    def run(self, example: Example, index: int) -> None:
        """Run a batch and add what it shows."""
        inputs = self._signature.bind(example)
        try:
            self._call(*inputs.values())
            if self._collector.found_masks():
                self._call(*inputs.values())
        except Exception as error:  # whatever the model raises on data that it does not take
            raise self._rejected(example, inputs, index, error) from error
        if not self._collector.is_finite():
            raise self._not_finite(inputs, index)
        self._collector.end_batch()

    def _rejected(self, example: Example, inputs: dict[str, Any], index: int, error: Exception) -> BatchError:
        """Return the error for a batch that the model does not take; run again, to find the layer."""
        self._collector.discard()
        interpreter, layer = CalibrationInterpreter(self._gm), ""
        with contextlib.suppress(Exception), torch.no_grad():
            layer = "?"
            interpreter.run_all(*inputs.values())
            layer = ""
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in example.tensors())
        return BatchError(
            f"The model rejects batch {index} (shapes {shapes}): {first_line(error)}.",
            layer=interpreter.last_layer() or None if layer else None,
            remedy="Yield batches of the shape and type that the float model takes.",
        )

    def _not_finite(self, inputs: dict[str, Any], index: int) -> NonFiniteError:
        """Return the error for a batch that gives NaN or Inf; run again, to find where first."""
        self._collector.discard()
        finder = NonFiniteFinder(self._gm)
        with torch.no_grad():
            finder.run_all(*inputs.values())
        name, layer = (finder.found or [("", "")])[0]
        return NonFiniteError(
            f"NaN or Inf in batch {index} of the calibration data, first in tensor '{name}'.",
            layer=layer or None,
            remedy="Remove such values from the data, or mend that layer.",
        )


def _resumed(statistics: Statistics, checkpoint: Path | None) -> int:
    """Add what a checkpoint holds; return how many batches that is."""
    if checkpoint is None or not checkpoint.exists():
        return 0
    saved = load_statistics(checkpoint)
    log.info("going on from '%s', which has seen %d batches", checkpoint, saved.num_batches)
    statistics.merge(saved)
    return saved.num_batches


def _check_kinds(statistics: Statistics, kinds: Iterable[Kind]) -> None:
    missing = sorted(kind.value for kind in frozenset(kinds) - statistics.kinds)
    if missing:
        raise StatisticsError(
            f"The statistics to add to hold nothing of the kind '{missing[0]}'.",
            remedy="Begin with new ones, or ask for the methods that they were begun for.",
        )


@contextlib.contextmanager
def _saving(statistics: Statistics, checkpoint: Path | None) -> Iterator[Callable[[], None]]:
    """Save statistics now and then, and at the end, however it comes."""
    last = time.monotonic()

    def save() -> None:
        nonlocal last
        if checkpoint is not None and time.monotonic() - last > _SAVE_EVERY:
            save_statistics(statistics, checkpoint)
            last = time.monotonic()

    try:
        yield save
    finally:
        if checkpoint is not None and statistics.num_batches:
            save_statistics(statistics, checkpoint)
