"""What becomes of an architecture on its way from float to a verified file."""

import dataclasses
import tempfile
import time
from dataclasses import dataclass

import torch
from torch import nn

import fxquant
from fxquant.errors import FxQuantError
from fxquant.graph import Example
from fxquant.graph.capture import capture
from fxquant.graph.trial import is_same, run
from tests.zoo.architectures import build


@dataclass
class Journey:
    """The stations of one architecture; what was not reached keeps its default.

    Attributes:
        name: Name of the architecture.
        way: How it was captured.
        is_equal: Whether the graph gave on the example what the model gives.
        capture_cost: Processor time of capture, in forwards of the model.
        capture_seconds: The same, in seconds.
        macs: Share of multiply-accumulates that run quantized.
        parameters: Share of parameters stored quantized.
        guards: Number of values that capture fixed.
        opaque: Layers that stay whole, and why.
        left_float: What takes multiply-accumulates in float, and why.
        max_steps: Largest difference of an op in ONNX Runtime, fed the runtime's inputs.
        top1: Share of rows of the outputs with the same largest entry.
        unmatched: Number of quantized tensors that the file has no counterpart of.
        failure: The error that ended the journey; empty for none.
    """

    name: str
    way: str = ""
    is_equal: bool = False
    capture_cost: float = 0.0
    capture_seconds: float = 0.0
    macs: float | None = None
    parameters: float = 0.0
    guards: int = 0
    opaque: tuple[str, ...] = ()
    left_float: tuple[str, ...] = ()
    max_steps: int | None = None
    top1: float | None = None
    unmatched: int = 0
    failure: str = ""


def travel(name: str) -> Journey:
    """Take an architecture through capture, prepare, calibrate, convert, export and verify."""
    model, (args, kwargs) = build(name)
    example, journey = Example(args=args, kwargs=kwargs), Journey(name=name)
    try:
        with torch.no_grad():
            _capture(model, example, journey)
            _quantize(model, example, journey)
    except FxQuantError as error:
        journey.failure = f"{type(error).__name__}: {error}"[:300]
    return journey


def _capture(model: nn.Module, example: Example, journey: Journey) -> None:
    run(model, example)  # the first call sets things up
    start = time.process_time()
    wanted = run(model, example)
    forward = time.process_time() - start
    start = time.process_time()
    gm = capture(model, example)
    journey.capture_seconds = time.process_time() - start
    journey.capture_cost = journey.capture_seconds / forward
    journey.is_equal = is_same(run(gm, example), wanted, 1e-4)


def _quantize(model: nn.Module, example: Example, journey: Journey) -> None:
    prepared = fxquant.prepare(model, example, target="onnxruntime")
    report = fxquant.report(prepared)
    assert report.capture is not None
    assert report.coverage is not None
    journey.way, journey.guards = report.capture.way, len(report.capture.guards)
    journey.opaque = tuple(str(layer) for layer in report.capture.opaque)
    journey.macs, journey.parameters = report.coverage.share_of_macs, report.coverage.share_of_parameters
    journey.left_float = tuple(f"{share:.1%} {reason}" for reason, share in report.left_float.items())
    fxquant.calibrate(prepared, [example, example])
    quantized = fxquant.convert(prepared)
    with tempfile.TemporaryDirectory() as folder:
        found = fxquant.verify(quantized, fxquant.export(quantized, folder), [example])
    journey.max_steps, journey.top1 = found.max_steps, found.top1_agreement
    journey.unmatched = len(found.unmatched)


def as_dict(journey: Journey) -> dict[str, object]:
    """Return a journey as plain values."""
    return dataclasses.asdict(journey)
