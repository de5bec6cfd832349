"""The verbs: prepare, calibrate, convert, export, verify, lint, and quantize, which does it all."""

from fxquant.api.analysis import analyze, measure_sensitivity
from fxquant.api.automatic import QuantizationResult, quantize
from fxquant.api.calibration import apply_statistics, calibrate, collect_statistics
from fxquant.api.files import export, lint, verify
from fxquant.api.model import convert, load_encodings, prepare, report
from fxquant.api.optimization import optimize
from fxquant.api.training import average_range_gradients, range_parameters

__all__ = [
    "QuantizationResult",
    "analyze",
    "apply_statistics",
    "average_range_gradients",
    "calibrate",
    "collect_statistics",
    "convert",
    "export",
    "lint",
    "load_encodings",
    "measure_sensitivity",
    "optimize",
    "prepare",
    "quantize",
    "range_parameters",
    "report",
    "verify",
]
