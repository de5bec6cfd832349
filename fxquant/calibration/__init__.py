"""Calibration: data runs through the float model, quantizers find their ranges."""

from fxquant.calibration.batches import Signature, calls_of, given_inputs
from fxquant.calibration.calibrate import calibrate_graph, uncalibrated_layers
from fxquant.calibration.interpreter import CalibrationInterpreter

__all__ = [
    "CalibrationInterpreter",
    "Signature",
    "calibrate_graph",
    "calls_of",
    "given_inputs",
    "uncalibrated_layers",
]
