"""Calibration: data runs through the float model, quantizers find their ranges."""

from fxquant.calibration.apply import apply
from fxquant.calibration.batch_errors import rejected
from fxquant.calibration.batches import Batches, as_batches, calls_of, first_call
from fxquant.calibration.blockwise import NodeRunner, loaded, run_block, run_blockwise, steps_of
from fxquant.calibration.calibrate import calibrate_graph, collect_graph, uncalibrated_layers
from fxquant.calibration.choices import Choices
from fxquant.calibration.distributed import Job
from fxquant.calibration.example_calls import batch_call, example_call
from fxquant.calibration.interpreter import CalibrationInterpreter
from fxquant.calibration.methods import METHODS, Method, method_of
from fxquant.calibration.offload import Boundary, Offload
from fxquant.calibration.progress import with_progress
from fxquant.calibration.sharding import sharded
from fxquant.calibration.signature import Signature
from fxquant.calibration.statistics import Statistics, load_statistics, save_statistics
from fxquant.calibration.team import DEFAULT_TIMEOUT
from fxquant.calibration.tensor_statistics import Kind, TensorStatistics
from fxquant.calibration.wrapped import unwrapped, whole

__all__ = [
    "DEFAULT_TIMEOUT",
    "METHODS",
    "Batches",
    "Boundary",
    "CalibrationInterpreter",
    "Choices",
    "Job",
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
    "loaded",
    "method_of",
    "rejected",
    "run_block",
    "run_blockwise",
    "save_statistics",
    "sharded",
    "steps_of",
    "uncalibrated_layers",
    "unwrapped",
    "whole",
    "with_progress",
]
