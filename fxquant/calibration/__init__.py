"""Calibration: data runs through the float model, quantizers find their ranges."""

from fxquant.calibration.batches import Batches, as_batches, calls_of, first_call
from fxquant.calibration.calibrate import calibrate_graph, uncalibrated_layers
from fxquant.calibration.example_calls import batch_call, example_call
from fxquant.calibration.interpreter import CalibrationInterpreter
from fxquant.calibration.progress import with_progress
from fxquant.calibration.sharding import sharded
from fxquant.calibration.signature import Signature

__all__ = [
    "Batches",
    "CalibrationInterpreter",
    "Signature",
    "as_batches",
    "batch_call",
    "calibrate_graph",
    "calls_of",
    "example_call",
    "first_call",
    "sharded",
    "uncalibrated_layers",
    "with_progress",
]
