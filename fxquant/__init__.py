"""fxquant: whole-model quantization on torch.fx, where what you simulate is what you ship."""

from fxquant.api import (
    QuantizationResult,
    calibrate,
    convert,
    export,
    lint,
    load_encodings,
    prepare,
    quantize,
    report,
    verify,
)
from fxquant.calibration import Batches
from fxquant.lint import LintReport

__version__ = "0.1.0"

__all__ = [
    "Batches",
    "LintReport",
    "QuantizationResult",
    "__version__",
    "calibrate",
    "convert",
    "export",
    "lint",
    "load_encodings",
    "prepare",
    "quantize",
    "report",
    "verify",
]
