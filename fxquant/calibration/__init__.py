"""Calibration: data runs through the float model, quantizers find their ranges."""

from fxquant.calibration.apply import apply
from fxquant.calibration.batches import Batches, as_batches, calls_of, first_call
from fxquant.calibration.blockwise import NodeRunner, run_blockwise
from fxquant.calibration.calibrate import calibrate_graph, collect_graph, uncalibrated_layers
from fxquant.calibration.choices import Choices
from fxquant.calibration.example_calls import batch_call, example_call
from fxquant.calibration.interpreter import CalibrationInterpreter
from fxquant.calibration.methods import METHODS, Method, method_of
from fxquant.calibration.offload import Offload
from fxquant.calibration.progress import with_progress
from fxquant.calibration.sharding import sharded
from fxquant.calibration.signature import Signature
from fxquant.calibration.statistics import Statistics, load_statistics, save_statistics
from fxquant.calibration.tensor_statistics import Kind, TensorStatistics

__all__ = [
    "METHODS",
    "Batches",
    "CalibrationInterpreter",
    "Choices",
    "Kind",
    "Method",
    "NodeRunner",
    "Offload",
    "Signature",
    "Statistics",
    "TensorStatistics",
    "apply",
    "as_batches",
    "batch_call",
    "calibrate_graph",
    "calls_of",
    "collect_graph",
    "example_call",
    "first_call",
    "load_statistics",
    "method_of",
    "run_blockwise",
    "save_statistics",
    "sharded",
    "uncalibrated_layers",
    "with_progress",
]
