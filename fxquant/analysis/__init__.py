"""Analysis: how what was simulated compares with what runs, and where accuracy goes."""

from fxquant.analysis.analyze import analyze_graph
from fxquant.analysis.parity import compare
from fxquant.analysis.parity_report import Departure, OutputParity, ParityReport, TensorParity
from fxquant.analysis.runtime_parity import compare_runtimes
from fxquant.analysis.sensitivity import measure_sensitivity
from fxquant.analysis.sensitivity_report import Alone, Sensitivity, SensitivityRow
from fxquant.analysis.site_report import Analysis, Histogram, OutlierChannel, SiteAnalysis
from fxquant.analysis.switches import Switches, Unit, units_by_layer, units_by_site

__all__ = [
    "Alone",
    "Analysis",
    "Departure",
    "Histogram",
    "OutlierChannel",
    "OutputParity",
    "ParityReport",
    "Sensitivity",
    "SensitivityRow",
    "SiteAnalysis",
    "Switches",
    "TensorParity",
    "Unit",
    "analyze_graph",
    "compare",
    "compare_runtimes",
    "measure_sensitivity",
    "units_by_layer",
    "units_by_site",
]
