"""fxquant: whole-model quantization on torch.fx, where what you simulate is what you ship."""

from fxquant.api import (
    QuantizationResult,
    apply_statistics,
    calibrate,
    collect_statistics,
    convert,
    export,
    lint,
    load_encodings,
    prepare,
    quantize,
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
    "apply_statistics",
    "calibrate",
    "collect_statistics",
    "convert",
    "export",
    "lint",
    "load_encodings",
    "load_shards",
    "load_statistics",
    "parameters_on_meta",
    "prepare",
    "quantize",
    "report",
    "save_statistics",
    "verify",
]
