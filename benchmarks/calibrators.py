"""The search for amax in a histogram, against the loops over bins that it is defined by."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.timing import Row
from fxquant.compat.pytorch_quantization.calib import HistogramCalibrator
from tests.quantization.encoding_analyzer.amax_definitions import entropy_kept, mse_bin

BINS, CHANNELS, ROUNDS = 2048, 512, 9


def measure_calibrators() -> list[Row]:
    """Return one row per method: processor time of the definition, of one tensor and of many channels."""
    return [measure_method(method, BINS, CHANNELS) for method in ("entropy", "mse", "percentile")]


def measure_method(method: str, num_bins: int, num_channels: int) -> Row:
    """Return the row of one method."""
    torch.set_num_threads(1)
    x = torch.randn(num_channels, 4608, generator=torch.Generator().manual_seed(0))
    tensor = HistogramCalibrator(8, None, False, num_bins=num_bins)
    channels = HistogramCalibrator(8, 0, False, num_bins=num_bins)
    tensor.collect(x)
    channels.collect(x)
    assert isinstance(tensor._calib_hist, torch.Tensor)
    assert isinstance(tensor._calib_bin_edges, torch.Tensor)
    counts, edges = tensor._calib_hist.double().numpy(), tensor._calib_bin_edges.numpy()
    defined, slow = _timed(lambda: _defined(method, counts, edges))
    found, _ = _timed(lambda: tensor.compute_amax(method))
    if found != defined:
        raise RuntimeError(f"{method} gives {found}, its definition {defined}")
    fast = statistics.median(_timed(lambda: tensor.compute_amax(method))[1] for _ in range(ROUNDS))
    many = statistics.median(_timed(lambda: channels.compute_amax(method))[1] for _ in range(3))
    return {
        "method": method,
        "definition, ms": f"{slow * 1e3:.2f}",
        "tensor, ms": f"{fast * 1e3:.2f}",
        "ratio": f"{slow / fast:.0f}",
        f"{num_channels} channels, ms": f"{many * 1e3:.0f}",
    }


def _defined(method: str, counts: np.ndarray, edges: np.ndarray) -> float:
    """Return amax by the loops of the definition."""
    if method == "entropy":
        counts = counts.copy()
        counts[0] = counts[1]
        return float(edges[entropy_kept(counts, 128, 128)])
    if method == "mse":
        best = mse_bin(counts, edges, 127, 128)
        return float((edges[best] + edges[best + 1]) / 2)
    return float(edges[np.searchsorted(np.cumsum(counts / counts.sum()), 99.99 / 100)])


def _timed(step: Callable[[], object]) -> tuple[object, float]:
    start = time.process_time()
    result = step()
    return result, time.process_time() - start
