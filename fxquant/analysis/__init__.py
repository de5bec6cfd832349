"""Analysis: how what was simulated compares with what runs."""

from fxquant.analysis.parity import compare
from fxquant.analysis.parity_report import Departure, OutputParity, ParityReport, TensorParity
from fxquant.analysis.runtime_parity import compare_runtimes

__all__ = ["Departure", "OutputParity", "ParityReport", "TensorParity", "compare", "compare_runtimes"]
