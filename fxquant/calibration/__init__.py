"""Calibration: data runs through the float model, quantizers find their ranges."""

from fxquant.calibration.batches import Signature, calls_of, example_call, peek, without_label
from fxquant.calibration.blockwise import NodeRunner, run_blockwise
from fxquant.calibration.calibrate import calibrate_graph, uncalibrated_layers
from fxquant.calibration.calibrate_blockwise import calibrate_blockwise
from fxquant.calibration.interpreter import CalibrationInterpreter
from fxquant.calibration.offload import Offload

__all__ = [
    "CalibrationInterpreter",
    "NodeRunner",
    "Offload",
    "Signature",
    "calibrate_blockwise",
    "calibrate_graph",
    "calls_of",
    "example_call",
    "peek",
    "run_blockwise",
    "uncalibrated_layers",
    "without_label",
]
