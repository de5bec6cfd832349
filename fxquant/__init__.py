"""fxquant: whole-model quantization on torch.fx, where what you simulate is what you ship."""

from fxquant import algorithms
from fxquant.api import (
    QuantizationResult,
    analyze,
    apply_statistics,
    average_range_gradients,
    calibrate,
    collect_statistics,
    convert,
    export,
    lint,
    load_encodings,
    measure_sensitivity,
    optimize,
    prepare,
    quantize,
    range_parameters,
    report,
    verify,
)
from fxquant.calibration import Batches, Offload, Statistics, load_statistics, save_statistics
from fxquant.lint import LintReport
from fxquant.storage import load_shards, parameters_on_meta

__version__ = "0.1.0"

__all__ = [
    "Batches",
    "LintReport",
    "Offload",
    "QuantizationResult",
    "Statistics",
    "__version__",
    "algorithms",
    "analyze",
    "apply_statistics",
    "average_range_gradients",
    "calibrate",
    "collect_statistics",
    "convert",
    "export",
    "lint",
    "load_encodings",
    "load_shards",
    "load_statistics",
    "measure_sensitivity",
    "optimize",
    "parameters_on_meta",
    "prepare",
    "quantize",
    "range_parameters",
    "report",
    "save_statistics",
    "verify",
]
