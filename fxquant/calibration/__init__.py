"""Calibration: data runs through the float model, quantizers find their ranges."""

from fxquant.calibration.batches import Signature, calls_of, example_call, peek, without_label
from fxquant.calibration.calibrate import calibrate_graph, uncalibrated_layers
from fxquant.calibration.interpreter import CalibrationInterpreter

__all__ = [
    "CalibrationInterpreter",
    "Signature",
    "calibrate_graph",
    "calls_of",
    "example_call",
    "peek",
    "uncalibrated_layers",
    "without_label",
]
