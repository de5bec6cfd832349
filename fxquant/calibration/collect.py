"""collect: run batches through a prepared model in float, once, and gather statistics of its tensors."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import fx

from fxquant.calibration.batch_errors import not_finite, rejected
from fxquant.calibration.batches import as_batches, calls_of
from fxquant.calibration.checkpoint import Checkpoint
from fxquant.calibration.collect_blockwise import collect_blockwise
from fxquant.calibration.collector import Collector
from fxquant.calibration.interpreter import CalibrationInterpreter, NonFiniteFinder
from fxquant.calibration.interrupts import uninterrupted
from fxquant.calibration.merging import Part
from fxquant.calibration.observed_model import ObservedModel
from fxquant.calibration.offload import Offload
from fxquant.calibration.progress import with_progress
from fxquant.calibration.signature import Signature
from fxquant.calibration.sites import sites_to_show
from fxquant.errors import BatchError, NonFiniteError
from fxquant.graph import Example


def collect(
    gm: fx.GraphModule,
    batches: object,
    part: Part,
    *,
    checkpoint: Checkpoint | None = None,
    progress: bool = True,
    offload: Offload | None = None,
    remember: Callable[[Example], None] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Run every batch through a prepared model in float, and add what its quantizers were given to a part.

    One pass over the data serves every kind of statistics. A batch counts wholly or not at all: whatever
    ends the run early, ``part`` and the checkpoint hold the batches before.

    Args:
        gm: The prepared model.
        batches: The data.
        part: What was seen; this adds to it.
        checkpoint: Where to save it, every minute and at the end however it comes. Where its files exist,
            what they hold goes on, and the batches that they have seen are passed over.
        progress: Whether to show a progress bar where there is a terminal.
        remember: Is given the first batch; None where it is not wanted.
        tick: Is called after every batch.
        offload: How to run the model block by block; None to run it as a whole. Block by block, all batches
            count or none.

    Raises:
        BatchError: If the model rejects a batch.
        NonFiniteError: If NaN or Inf shows up where a range is measured.
        StatisticsError: If the checkpoint does not belong to this model and these kinds.
    """
    seen = set() if checkpoint is None else checkpoint.resume(part)
    signature, batches = Signature(gm), as_batches(batches)
    keeping = contextlib.nullcontext() if checkpoint is None else checkpoint.keeping(part)
    shown = with_progress(calls_of(batches, signature), batches, progress=progress)
    if offload is not None:
        with keeping, contextlib.closing(shown) as calls:
            _collect_blockwise(gm, calls, part, seen, offload, remember, tick)
        return
    collector = Collector(sites_to_show(gm, part.statistics.kinds), part.statistics)
    runner = _Runner(gm, collector, signature)
    with keeping as saver, runner, contextlib.closing(shown) as calls:
        for index, (number, example) in enumerate(zip(part.numbering(), calls, strict=False)):
            if index == 0 and remember is not None:
                remember(example)
            if number not in seen:
                runner.run(example, number)
                with uninterrupted():
                    collector.end_batch()
                    part.numbers.add(number)
                if saver is not None:
                    saver.save_now_and_then()
            tick()


def _collect_blockwise(
    gm: fx.GraphModule,
    calls: Iterable[Example],
    part: Part,
    seen: set[int],
    offload: Offload,
    remember: Callable[[Example], None] | None,
    tick: Callable[[], None],
) -> None:
    numbers: set[int] = set()

    def unseen() -> Iterator[Example]:
        for index, (number, example) in enumerate(zip(part.numbering(), calls, strict=False)):
            if index == 0 and remember is not None:
                remember(example)
            tick()
            if number not in seen:
                numbers.add(number)
                yield example

    wanted = unseen()
    first = next(wanted, None)
    if first is not None:
        collect_blockwise(gm, itertools.chain((first,), wanted), part.statistics, offload)
        part.numbers.update(numbers)


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
        """Run a batch; the collector then has what it shows."""
        inputs = self._signature.bind(example)
        try:
            self._call(*inputs.values())
            if self._collector.found_masks():
                self._call(*inputs.values())
        except Exception as error:  # whatever the model raises on data that it does not take
            raise self._rejected(example, inputs, index, error) from error
        if not self._collector.is_finite():
            raise self._not_finite(inputs, index)

    def _rejected(self, example: Example, inputs: dict[str, Any], index: int, error: Exception) -> BatchError:
        """Return the error for a batch that the model does not take; run again, to find the layer."""
        self._collector.discard()
        interpreter, has_failed = CalibrationInterpreter(self._gm), True
        with contextlib.suppress(Exception), torch.no_grad():
            interpreter.run_all(*inputs.values())
            has_failed = False
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in example.tensors())
        return rejected(
            f"batch {index} (shapes {shapes})", interpreter.last_layer() if has_failed else "", error
        )

    def _not_finite(self, inputs: dict[str, Any], index: int) -> NonFiniteError:
        """Return the error for a batch that gives NaN or Inf; run again, to find where first."""
        self._collector.discard()
        finder = NonFiniteFinder(self._gm)
        with torch.no_grad():
            finder.run_all(*inputs.values())
        name, layer = (finder.found or [("", "")])[0]
        return not_finite(index, name, layer)
