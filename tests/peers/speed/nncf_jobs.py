"""NNCF: pip install nncf. The whole of nncf.quantize is timed: collecting is no call of its own."""

from collections.abc import Iterator
from importlib.metadata import version

import nncf
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters
from nncf.quantization.range_estimator import RangeEstimatorParametersSet
from torch import nn

from benchmarks.models import Batch
from tests.peers.speed.job import Job, Peer, run_all

_ESTIMATORS = {"minmax": "MINMAX", "percentile": "MEAN_QUANTILE", "mse": "HISTOGRAM"}


def _jobs(model: nn.Module, batch: Batch) -> Iterator[Job]:
    for measure, name in _ESTIMATORS.items():

        def calibrate(batches, name=name):
            return _quantized(model, batches, name)

        yield Job(measure=measure, note=name, run=calibrate)
    quantized = _quantized(model, [batch], "MINMAX")
    yield Job(measure="forward", note="nncf.quantize", run=lambda batches: run_all(quantized, batches))


def _quantized(model: nn.Module, batches, estimator: str) -> nn.Module:
    ranges = getattr(RangeEstimatorParametersSet, estimator)
    return nncf.quantize(
        model,
        nncf.Dataset(batches),
        subset_size=len(batches),
        advanced_parameters=AdvancedQuantizationParameters(
            disable_bias_correction=True, activations_range_estimator_params=ranges
        ),
    )


PEER = Peer(title=f"NNCF {version('nncf')}", jobs=_jobs)
