"""The verbs: prepare, calibrate, convert, export, verify, lint, and quantize, which does most of it."""

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
from fxquant.export import DEFAULT_VERSION, ExportedFiles, encodings_json, export_files, load_into
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
from fxquant.lint import LintReport, lint_model
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


def load_encodings(
    prepared: fx.GraphModule,
    path: str | Path,
    strict: bool = True,
    partial: bool = False,
    allow_overwrite: bool = True,
) -> None:
    """Give the quantizers of a prepared model the encodings of a file, in place and to the last bit.

    It stands where ``calibrate`` stands: what is converted and exported then has the encodings of the file.
    An error leaves the model as it was.

    Args:
        prepared: What ``prepare`` returned.
        path: An encodings file of version 0.6.1, 1.0.0, 2.0.0 or 2.1.0, by tensor, as ``export`` writes it.
        strict: Whether an entry for a tensor that has no quantizer is an error; otherwise it is passed over.
        partial: Whether quantizers without an entry stay as they are; otherwise they are an error.
        allow_overwrite: Whether a later ``calibrate`` may change the ranges that were loaded. Those that an
            op has by itself, such as that of a softmax, it never does.

    Raises:
        ModelTypeError: If it is not a prepared model.
        EncodingsError: If the file cannot be read, is not sound, or does not fit the model; names the file
            and the tensor.
    """
    get_record(prepared, Stage.PREPARED)
    load_into(prepared, Path(path), strict, partial, allow_overwrite)


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


def export(
    quantized: fx.GraphModule,
    path: str | Path,
    example_inputs: object = None,
    encodings_version: str = DEFAULT_VERSION,
    *,
    opset: int | None = None,
    has_quantizers: bool = True,
    external_data: bool | None = None,
) -> ExportedFiles:
    """Write a quantized model as ONNX and its encodings as JSON, both whole or neither.

    Args:
        quantized: What ``convert`` returned.
        path: A folder, for model.onnx and model.encodings in it, or a file name ending in ".onnx".
        example_inputs: Inputs to trace with; None for the first calibration batch. Their first dimension
            becomes dynamic in the file, unless the target wants fixed sizes.
        encodings_version: Format of the encodings: "0.6.1", "1.0.0", "2.0.0" or "2.1.0".
        opset: Opset of the ONNX file; None for the lowest that says what the model has: 18, and 21 for types
            other than 8 bits and for weights in blocks.
        has_quantizers: Whether the ONNX file has QuantizeLinear and DequantizeLinear. False for tools that
            take a float model beside the encodings: its weights are on their grids, and its tensors have the
            names that the encodings have.
        external_data: Whether weights are written to a file of their own, which is named by its contents;
            None for when the file would exceed the 2 GB that ONNX allows.

    Returns:
        The paths written: ``files.onnx`` and ``files.encodings``.

    Raises:
        ModelTypeError: If it is not a quantized model.
        OptionError: If there is no such format of encodings.
        ExportError: If there are no inputs to trace with, or the model cannot be written.
    """
    record = get_record(quantized, Stage.QUANTIZED)
    example = record.example if example_inputs is None else Signature(quantized).call(example_inputs)
    return export_files(
        quantized,
        Path(path),
        example,
        encodings_json(quantized, encodings_version),
        opset=opset,
        has_quantizers=has_quantizers,
        external_data=external_data,
    )


def report(model: fx.GraphModule) -> Report:
    """Return what each pass did at each site of a prepared or quantized model, and why ops stay float.

    Raises:
        ModelTypeError: If it is neither.
    """
    return get_record(model, Stage.PREPARED, Stage.QUANTIZED).report


def verify(
    quantized: fx.GraphModule,
    files: ExportedFiles | str | Path,
    batches: object,
    runtime: str = "onnxruntime",
    allowed_steps: int = 1,
    **options: object,
) -> ParityReport:
    """Run exported files in a runtime and compare them with the simulation, in quantization steps.

    ``report.first_departure`` names the first op, with its layer, that is off by more than ``allowed_steps``
    when it is fed the runtime's own inputs. ``report.fallbacks`` and ``report.float_islands`` name what the
    runtime did not take, and what it ran in floating point though it is quantized in the file.

    Args:
        quantized: The model that was exported.
        files: What ``export`` returned, or the path of the ONNX file.
        batches: Data, as for ``calibrate``. A file of fixed sizes takes batches of its own size only.
        runtime: "onnxruntime", "onnxruntime-exact" (without graph optimizations), "htp" (Qualcomm's, or its
            simulator) or "openvino".
        allowed_steps: By how many steps an op may be off before it is a departure.
        options: Options of the runtime: ``soc="sm8650"`` and ``allows_fallback=True`` of "htp".

    Raises:
        ModelTypeError: If it is not a quantized model.
        BatchError: If there is no batch, or one does not fit the model.
        OptionError: If there is no such runtime, or it has no such option.
        MissingExtraError: If the runtime is not installed; says how to.
        RefusalError: If the runtime refuses the file.
    """
    get_record(quantized, Stage.QUANTIZED)
    path = files.onnx if isinstance(files, ExportedFiles) else Path(files)
    return compare(quantized, path, batches, runtime, allowed_steps, **options)


def lint(
    model: object,
    target: str = "tensorrt",
    *,
    ignore: Iterable[str] = (),
    fix: str | Path | None = None,
) -> LintReport:
    """Check a quantized ONNX file, fxquant's or another's, against the rules of a target (docs/lint.md).

    The file is read, not run, and weights in files of their own stay there.

    Args:
        model: A path, what ``export`` returned, an onnx.ModelProto or an onnx_ir.Model; it is not modified.
        target: "tensorrt" or "qualcomm".
        ignore: Ids of rules not to check, such as "P12".
        fix: Where to write the model after every exact fix; None to only look.

    Raises:
        OptionError: If the target or a rule to ignore does not exist.
        ModelTypeError: If it is no model.
        ModelFileError: If the file cannot be read as one.
        ExportError: If the repaired model cannot be written.
    """
    source = model.onnx if isinstance(model, ExportedFiles) else model
    return lint_model(source, target, ignore=ignore, fix=None if fix is None else Path(fix))


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
