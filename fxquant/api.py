"""The verbs: prepare, calibrate, convert, export, verify, and quantize, which does it all."""

import copy
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from fxquant.analysis import ParityReport, compare
from fxquant.calibration import (
    Signature,
    calibrate_graph,
    example_call,
    peek,
    uncalibrated_layers,
    without_label,
)
from fxquant.errors import ModelTypeError, NotCalibratedError, OptionError, unknown_option
from fxquant.export import ExportedFiles, export_files
from fxquant.graph import (
    ModelRecord,
    Report,
    Stage,
    capture,
    capture_notes,
    coverage_of,
    get_record,
    has_record,
    set_record,
)
from fxquant.passes import Pass, Pipeline, convert_pipeline, parse, prepare_pipeline
from fxquant.targets import get_target

log = logging.getLogger(__name__)

METHODS = ("minmax",)
"""Ways to find an activation's range from data."""


def prepare(
    model: nn.Module | torch.export.ExportedProgram,
    example_inputs: object = None,
    target: str = "tensorrt",
    config: Pipeline | str | None = None,
    after_pass: Callable[[Pass, fx.GraphModule], None] | None = None,
) -> fx.GraphModule:
    """Return a copy of a model with quantizers where the target runs integers.

    The result is a plain nn.Module in evaluation mode: trainable, picklable, on any device. Its quantizers
    have no range before ``calibrate``.

    Args:
        model: Any nn.Module, fx.GraphModule or torch.export.ExportedProgram; it is not modified.
        example_inputs: A tensor, a tuple of positional or a dict of keyword arguments that the model runs
            with. The model is recorded on them, which succeeds on any forward that runs; optional inputs
            that are not among them are fixed to their defaults. None for a forward that torch.fx can trace
            symbolically.
        target: Name of the target: "tensorrt" or "onnxruntime".
        config: The passes to run instead of the target's own, as a Pipeline or its text.
        after_pass: Called with each pass and the graph after it, to print or check.

    Raises:
        ModelTypeError: If model is not an nn.Module.
        CaptureError: If it fails on the example inputs; without them, if its forward cannot be traced: names
            the layer and the line.
        OptionError: If target or config does not exist.
        BatchError: If example_inputs do not fit the model.

    ``fxquant.report(prepared)`` tells what was quantized and what was not, which layers had to stay whole,
    and which values the capture fixed. Those are checked when the model runs: a GuardError names the value.
    """
    pipeline = prepare_pipeline(get_target(target)) if config is None else config
    pipeline = (parse(pipeline) if isinstance(pipeline, str) else pipeline).for_target(target)
    if has_record(model):
        raise ModelTypeError(
            "The model is prepared or quantized already.", remedy="Pass the float model it was made from."
        )
    example = None if example_inputs is None else example_call(model, example_inputs)
    gm = capture(model, example)
    done = Report()
    pipeline.run(gm, done, after_pass)
    done.capture, done.coverage = capture_notes(gm), coverage_of(gm)
    record = ModelRecord(
        stage=Stage.PREPARED, target=target, pipeline=str(pipeline), report=done, example=example
    )
    set_record(gm, record)
    log.info("prepared for %s: %s", target, done)
    return gm


def calibrate(prepared: fx.GraphModule, batches: object, method: str | None = None) -> None:
    """Find the range of every quantizer of a prepared model, in place, from one pass over data.

    Args:
        prepared: What ``prepare`` returned.
        batches: An iterable of batches: tensors, tuples of positional arguments, dicts of keyword
            arguments, or a DataLoader's (input, label), whose label is dropped. The first one is remembered
            as the input to export with.
        method: How a range follows from what was seen: "minmax", the default.

    Raises:
        OptionError: If the method does not exist.
        ModelTypeError: If it is not a prepared model.
        BatchError: If there is no batch, or the model rejects one.
        NonFiniteError: If NaN or Inf shows up; names the first layer where it did.
    """
    if method is not None and method not in METHODS:
        raise unknown_option("calibration method", method, METHODS)
    calibrate_graph(prepared, batches)


def convert(prepared: fx.GraphModule, arithmetic: str = "float") -> fx.GraphModule:
    """Return the quantized model: encodings fixed, weights as integers; its forward is the simulation.

    Args:
        prepared: A calibrated model; it is not modified and can be trained on.
        arithmetic: How it rounds between quantizers: "float", the default; or "integer", which gives bit for
            bit what ONNX Runtime's fused CPU kernels give; or "htp" and "htp-v68", what Qualcomm's HTP gives.
            No gradient flows through the latter. ``fxquant.report`` names the ops that have no such formula.
            What is exported does not depend on it.

    Raises:
        OptionError: If there is no such arithmetic.
        ModelTypeError: If it is not a prepared model.
        NotCalibratedError: If a quantizer has no range; lists the layers.
    """
    record = get_record(prepared, Stage.PREPARED)
    pipeline = convert_pipeline(get_target(record.target), arithmetic)
    missing = uncalibrated_layers(prepared)
    if missing:
        listed = ", ".join(f"'{name}'" for name in missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise NotCalibratedError(
            f"{len(missing)} quantizer(s) have no range: {listed}.",
            layer=missing[0],
            remedy="Call fxquant.calibrate(prepared, batches) first, with data that reaches these layers.",
        )
    gm = copy.deepcopy(prepared)
    done = replace(record.report, sites=list(record.report.sites))
    pipeline.run(gm, done)
    set_record(gm, replace(record, stage=Stage.QUANTIZED, report=done))
    return gm


def export(quantized: fx.GraphModule, path: str | Path, example_inputs: object = None) -> ExportedFiles:
    """Write a quantized model as QDQ ONNX and its encodings as JSON, each whole or not at all.

    Args:
        quantized: What ``convert`` returned.
        path: A folder, for model.onnx and model.encodings in it, or a file name ending in ".onnx".
        example_inputs: Inputs to trace with; None for the first calibration batch. Their first dimension
            becomes dynamic in the file.

    Returns:
        The paths written: ``files.onnx`` and ``files.encodings``.

    Raises:
        ModelTypeError: If it is not a quantized model.
        ExportError: If there are no inputs to trace with, or the model cannot be written.
    """
    record = get_record(quantized, Stage.QUANTIZED)
    example = record.example if example_inputs is None else Signature(quantized).call(example_inputs)
    return export_files(quantized, Path(path), example)


def report(model: fx.GraphModule) -> Report:
    """Return what each pass did at each site of a prepared or quantized model, and why ops stay float.

    Raises:
        ModelTypeError: If it is neither.
    """
    return get_record(model, Stage.PREPARED, Stage.QUANTIZED).report


def verify(quantized: fx.GraphModule, files: ExportedFiles, batches: object) -> ParityReport:
    """Run exported files in ONNX Runtime and compare them with the simulation, in quantization steps.

    Args:
        quantized: The model that was exported.
        files: What ``export`` returned.
        batches: Data, as for ``calibrate``.

    Raises:
        ModelTypeError: If it is not a quantized model.
        BatchError: If there is no batch, or one does not fit the model.
    """
    get_record(quantized, Stage.QUANTIZED)
    return compare(quantized, files.onnx, batches)


@dataclass(frozen=True, kw_only=True)
class QuantizationResult:
    """What ``quantize`` found.

    Attributes:
        model: The quantized model.
        report: What each pass did, and why ops stayed float.
        float_score: ``evaluate`` of the float model; None without evaluate.
        score: ``evaluate`` of the quantized model; None without evaluate.
        max_drop: The drop that was allowed; None for any.
    """

    model: fx.GraphModule
    report: Report
    float_score: float | None = None
    score: float | None = None
    max_drop: float | None = None

    @property
    def drop(self) -> float | None:
        """How much the score fell; None without evaluate."""
        return None if self.float_score is None or self.score is None else self.float_score - self.score

    @property
    def is_within_budget(self) -> bool:
        """Whether the score fell by at most ``max_drop``; True where no limit was set."""
        return self.max_drop is None or (self.drop is not None and self.drop <= self.max_drop)


def quantize(
    model: nn.Module,
    batches: Iterable[Any],
    target: str = "tensorrt",
    evaluate: Callable[[nn.Module], float] | None = None,
    max_drop: float | None = None,
    arithmetic: str = "float",
) -> QuantizationResult:
    """Prepare, calibrate and convert a model in one call.

    Args:
        model: The float model; it is not modified.
        batches: Calibration data, as for ``calibrate``.
        target: Name of the target.
        evaluate: Gives a score, higher is better, for the float and for the quantized model.
        max_drop: How far the score may fall; the result says whether it was met.
        arithmetic: How the quantized model rounds, as for ``convert``.

    Raises:
        OptionError: If max_drop is given without evaluate, or the target or arithmetic does not exist.
        FxQuantError: Whatever the single verbs raise.
    """
    if max_drop is not None and evaluate is None:
        raise OptionError(
            "max_drop needs a score to measure.", remedy="Pass evaluate=..., a function of a model."
        )
    first, every = peek(batches)
    prepared = prepare(model, without_label(model, first), target=target)
    calibrate(prepared, every)
    quantized = convert(prepared, arithmetic)
    with torch.no_grad():
        float_score = None if evaluate is None else float(evaluate(copy.deepcopy(model).eval()))
        score = None if evaluate is None else float(evaluate(quantized))
    return QuantizationResult(
        model=quantized,
        report=report(quantized),
        float_score=float_score,
        score=score,
        max_drop=max_drop,
    )
