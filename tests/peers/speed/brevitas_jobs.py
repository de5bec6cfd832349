"""brevitas, layer by layer: pip install brevitas"""

import copy
from collections.abc import Iterator
from importlib.metadata import version

from brevitas.graph.calibrate import calibration_mode
from brevitas.graph.quantize import LAYERWISE_COMPUTE_LAYER_MAP, layerwise_quantize
from brevitas.inject.enum import StatsOp
from brevitas.quant import Int8ActPerTensorFloat
from brevitas.quant.scaled_int import Int8ActPerTensorFloatMSE
from torch import nn

from benchmarks.models import Batch
from tests.peers.speed.job import Job, Peer, run_all

_QUANTIZERS = {
    "minmax": Int8ActPerTensorFloat.let(scaling_stats_op=StatsOp.MAX),
    "percentile": Int8ActPerTensorFloat,
    "mse": Int8ActPerTensorFloatMSE,
}


def _jobs(model: nn.Module, batch: Batch) -> Iterator[Job]:
    for measure, quantizer in _QUANTIZERS.items():
        layers = {
            kind: (made[0], {**made[1], "input_quant": quantizer})
            for kind, made in LAYERWISE_COMPUTE_LAYER_MAP.items()
            if made and "input_quant" in made[1]
        }
        quantized = [layerwise_quantize(copy.deepcopy(model), compute_layer_map=layers) for _ in range(2)]
        fresh = iter(quantized)  # a model's statistics are collected only once

        def calibrate(batches, fresh=fresh):
            one = next(fresh).eval()
            with calibration_mode(one):
                run_all(one, batches)

        yield Job(measure=measure, note=f"layerwise, {measure}", run=calibrate)
        if measure == "minmax":
            yield Job(
                measure="forward", note="layerwise", run=lambda batches, q=quantized[0]: run_all(q, batches)
            )


PEER = Peer(title=f"brevitas {version('brevitas')}", jobs=_jobs)
