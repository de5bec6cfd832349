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
from fxquant.calibration import Offload
from fxquant.lint import LintReport
from fxquant.storage import load_shards, parameters_on_meta

__version__ = "0.1.0"

__all__ = [
    "LintReport",
    "Offload",
    "QuantizationResult",
    "__version__",
    "calibrate",
    "convert",
    "export",
    "lint",
    "load_encodings",
    "load_shards",
    "parameters_on_meta",
    "prepare",
    "quantize",
    "report",
    "verify",
]
