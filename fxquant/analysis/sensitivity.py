"""measure_sensitivity: what each quantizer of a model, or each layer's, does to its outputs."""

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from fxquant.analysis.output_error import OutputError, check_outputs
from fxquant.analysis.prefix import PrefixRunner
from fxquant.analysis.sensitivity_report import Alone, Sensitivity, SensitivityRow
from fxquant.analysis.switches import Switches, Unit, units_by_layer, units_by_site
from fxquant.calibration import (
    Offload,
    Signature,
    as_batches,
    calls_of,
    uncalibrated_layers,
    with_progress,
)
from fxquant.calibration.batch_errors import rejected
from fxquant.calibration.batches import no_batch
from fxquant.calibration.offload import Boundary
from fxquant.errors import FxQuantError, NotCalibratedError, OptionError, some_of, unknown_option
from fxquant.graph import Example, Stage, get_record

_UNITS = {"site": units_by_site, "layer": units_by_layer}
_MODEL = Unit(name="model", layer="", kind="model", tensors=(), quantizers=())


def measure_sensitivity(
    gm: fx.GraphModule,
    batches: object,
    alone: Alone,
    by: str,
    *,
    evaluate: Callable[[nn.Module], float] | None,
    max_batches: int | None,
    progress: bool,
    offload: Offload,
) -> Sensitivity:
    """Measure outputs with each unit alone quantized, or in float; see ``fxquant.measure_sensitivity``.

    Before the first call of a unit's quantizers its run equals that without the change; so it starts there,
    on values kept from one run of each batch.

    Raises:
        ModelTypeError: If gm is not a prepared model.
        NotCalibratedError: If a quantizer has no range.
        OptionError: If there are no such units, or no float outputs.
        BatchError: If there is no batch, or the model rejects one.
        NonFiniteError: If the float model gives NaN or Inf.
    """
    get_record(gm, Stage.PREPARED)
    if offload.device is not None:
        raise OptionError(
            "A model is not moved to another device block by block to measure its sensitivity.",
            remedy="Pass an Offload without device.",
        )
    if max_batches is not None and max_batches < 1:
        raise OptionError(f"{max_batches} batches measure nothing.", remedy="Pass 1 or more, or None.")
    if by not in _UNITS:
        raise unknown_option("unit of sensitivity", by, _UNITS)
    _check_calibrated(gm)
    measured = _Measured(gm, _UNITS[by](gm), alone)
    data = as_batches(batches)
    calls = itertools.islice(calls_of(data, Signature(gm)), max_batches)
    with (
        Boundary(offload) as kept,
        contextlib.closing(with_progress(calls, data, progress, title="Measuring")) as shown,
    ):
        runner = PrefixRunner(gm, kept)
        count = 0
        for count, example in enumerate(shown, 1):
            try:
                measured.add(runner, example, count - 1)
            except FxQuantError:
                raise
            except Exception as error:  # whatever the model raises on data that it does not take
                raise rejected(f"batch {count - 1}", "", error) from error
    if not count:
        raise no_batch()
    return measured.result(count, evaluate)


def _check_calibrated(gm: fx.GraphModule) -> None:
    missing = uncalibrated_layers(gm)
    if missing:
        raise NotCalibratedError(
            f"{len(missing)} quantizer(s) have no range: {some_of(missing)}.", remedy="Call calibrate first."
        )


class _Measured:
    """The errors of all units, and of the whole model."""

    def __init__(self, gm: fx.GraphModule, units: list[Unit], alone: Alone) -> None:
        self._gm, self._alone, self._units = gm, alone, units
        self._switches = Switches(gm)
        self._signature = Signature(gm)
        self._errors = {unit: OutputError() for unit in (*units, _MODEL)}
        self._blocks = self._of_blocks = 0

    def add(self, runner: PrefixRunner, example: Example, index: int) -> None:
        """Run a batch in float, with all quantizers on, and for each unit."""
        is_one = self._alone is Alone.ONE
        with self._switches.without(self._switches.quantizers):
            wanted = runner.run(self._inputs(example))
        check_outputs(wanted, index)
        whole = (
            runner.run(self._inputs(example)) if not is_one else runner.run_from_inputs(self._inputs(example))
        )
        self._errors[_MODEL].add(whole, wanted)
        for unit in self._units:
            start = runner.start_of(unit.quantizers)
            before = runner.blocks_run
            if start is None:
                outputs = wanted if is_one else whole
            else:
                with self._switched(unit):
                    outputs = (
                        runner.run_from(start) if start else runner.run_from_inputs(self._inputs(example))
                    )
            self._errors[unit].add(outputs, wanted)
            self._blocks += runner.blocks_run - before
            self._of_blocks += runner.num_blocks

    def result(self, num_batches: int, evaluate: Callable[[nn.Module], float] | None) -> Sensitivity:
        """Return all rows; the user's function is asked for its scores."""
        rows = [self._row(unit, self._score(unit, evaluate)) for unit in (*self._units, _MODEL)]
        return Sensitivity(
            alone=self._alone,
            rows=tuple(rows[:-1]),
            whole=rows[-1],
            num_batches=num_batches,
            share_run=self._blocks / max(self._of_blocks, 1),
        )

    def _inputs(self, example: Example) -> list[Any]:
        """Return the inputs of a run of its own: a forward may write into them."""
        args, kwargs = example.copied()
        return list(self._signature.bind(Example(args=args, kwargs=kwargs)).values())

    def _switched(self, unit: Unit) -> contextlib.AbstractContextManager[None]:
        if self._alone is Alone.ONE:
            return self._switches.only(unit.quantizers)
        return self._switches.without(unit.quantizers)

    def _score(self, unit: Unit, evaluate: Callable[[nn.Module], float] | None) -> float | None:
        if evaluate is None:
            return None
        switched = contextlib.nullcontext() if unit is _MODEL else self._switched(unit)
        with switched, torch.no_grad():
            return float(evaluate(self._gm))

    def _row(self, unit: Unit, score: float | None) -> SensitivityRow:
        error = self._errors[unit]
        return SensitivityRow(
            name=unit.name,
            layer=unit.layer,
            kind=unit.kind,
            tensors=unit.tensors,
            sqnr=error.sqnr,
            mse=error.mse,
            cosine=error.cosine,
            worst_cosine=error.worst_cosine,
            score=score,
        )
