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
from fxquant.calibration import Statistics, load_statistics, save_statistics
from fxquant.lint import LintReport

__version__ = "0.1.0"

__all__ = [
    "LintReport",
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
    "load_statistics",
    "prepare",
    "quantize",
    "report",
    "save_statistics",
    "verify",
]
