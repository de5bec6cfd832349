"""The verbs that make a quantized model: prepare, load_encodings, convert; and its report."""

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import fx, nn

from fxquant.calibration import example_call, uncalibrated_layers
from fxquant.errors import ModelTypeError, NotCalibratedError, some_of
from fxquant.export import load_into
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
    write_frugally,
)
from fxquant.passes import Pass, Pipeline, convert_pipeline, parse, prepare_pipeline
from fxquant.storage import releasing, shared_copies
from fxquant.targets import get_target

log = logging.getLogger(__name__)


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
        target: Name of the target, such as "tensorrt", or with one of its schemes: "qualcomm:w8a16".
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
    with releasing(gm):
        pipeline.run(gm, done, after_pass)
    done.capture, done.coverage = capture_notes(gm), coverage_of(gm)
    record = ModelRecord(
        stage=Stage.PREPARED, target=target, pipeline=str(pipeline), report=done, example=example
    )
    set_record(gm, record)
    write_frugally(gm)
    log.info("prepared for %s: %s", target, done)
    return gm


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
        raise NotCalibratedError(
            f"{len(missing)} quantizer(s) have no range: {some_of(missing)}.",
            layer=missing[0],
            remedy="Call fxquant.calibrate(prepared, batches) first, with data that reaches these layers.",
        )
    gm = copy.deepcopy(prepared, shared_copies(prepared))
    done = replace(record.report, sites=list(record.report.sites))
    with releasing(gm):
        pipeline.run(gm, done)
    set_record(gm, replace(record, stage=Stage.QUANTIZED, report=done))
    return gm


def report(model: fx.GraphModule) -> Report:
    """Return what each pass did at each site of a prepared or quantized model, and why ops stay float.

    Raises:
        ModelTypeError: If it is neither.
    """
    return get_record(model, Stage.PREPARED, Stage.QUANTIZED).report
