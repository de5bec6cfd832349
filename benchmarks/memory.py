"""Peak memory of a fresh process that does the whole job, over one that runs the float model."""

import statistics
import subprocess
import sys

from benchmarks.models import MODELS, label_of
from benchmarks.timing import Row
from fxquant.calibration import METHODS

_METHODS = tuple(method for method in ("minmax", "entropy") if method in METHODS)
_PROCESSES = 3


def measure_memory() -> list[Row]:
    """Return one row per model: the peak with float forwards, and with the whole job by method."""
    return [measure_model(name) for name in MODELS]


def measure_model(name: str) -> Row:
    """Return the row of one model."""
    base = _peak("benchmarks.float_job", name)
    peaks = {method: _peak("benchmarks.whole_job", name, method) for method in _METHODS}
    ratios = {method: f"{peak / base:.2f}" for method, peak in peaks.items()}
    return {"model": label_of(name), "float, MiB": f"{base / 1024:.0f}", **ratios}


def _peak(module: str, *arguments: str) -> float:
    """Return the median peak of some processes: where the allocator finds room differs from run to run."""
    command = [sys.executable, "-W", "ignore", "-m", module, *arguments]
    peaks = [
        int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
        for _ in range(_PROCESSES)
    ]
    return statistics.median(peaks)
