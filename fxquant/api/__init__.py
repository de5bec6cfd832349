"""The verbs: prepare, calibrate, convert, export, verify, lint, and quantize, which does it all."""

from fxquant.api.automatic import QuantizationResult, quantize
from fxquant.api.files import export, lint, verify
from fxquant.api.model import METHODS, calibrate, convert, load_encodings, prepare, report

__all__ = [
    "METHODS",
    "QuantizationResult",
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
