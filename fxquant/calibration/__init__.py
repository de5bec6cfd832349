"""Calibration: data runs through the float model, quantizers find their ranges."""

from fxquant.calibration.apply import apply
from fxquant.calibration.batches import Signature, calls_of, example_call, peek, without_label
from fxquant.calibration.calibrate import calibrate_graph, collect_graph, uncalibrated_layers
from fxquant.calibration.choices import Choices
from fxquant.calibration.interpreter import CalibrationInterpreter
from fxquant.calibration.methods import METHODS, Method, method_of
from fxquant.calibration.statistics import Statistics, load_statistics, save_statistics
from fxquant.calibration.tensor_statistics import Kind, TensorStatistics

__all__ = [
    "METHODS",
    "CalibrationInterpreter",
    "Choices",
    "Kind",
    "Method",
    "Signature",
    "Statistics",
    "TensorStatistics",
    "apply",
    "calibrate_graph",
    "calls_of",
    "collect_graph",
    "example_call",
    "load_statistics",
    "method_of",
    "peek",
    "save_statistics",
    "uncalibrated_layers",
    "without_label",
]
