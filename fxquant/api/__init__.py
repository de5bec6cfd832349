"""The verbs: prepare, calibrate, convert, export, verify, lint, and quantize, which does it all."""

from fxquant.api.automatic import QuantizationResult, quantize
from fxquant.api.calibration import apply_statistics, calibrate, collect_statistics
from fxquant.api.files import export, lint, verify
from fxquant.api.model import convert, load_encodings, prepare, report

__all__ = [
    "QuantizationResult",
    "apply_statistics",
    "calibrate",
    "collect_statistics",
    "convert",
    "export",
    "lint",
    "load_encodings",
    "prepare",
    "quantize",
    "report",
    "verify",
]
