"""Analysis: how what was simulated compares with what runs."""

from fxquant.analysis.parity import OutputParity, ParityReport, TensorParity, compare

__all__ = ["OutputParity", "ParityReport", "TensorParity", "compare"]
