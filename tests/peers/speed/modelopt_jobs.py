"""NVIDIA ModelOpt: pip install nvidia-modelopt"""

import copy
from collections.abc import Iterator
from importlib.metadata import version

import modelopt.torch.quantization as mtq
from modelopt.torch.quantization.calib.histogram import HistogramCalibrator
from modelopt.torch.quantization.model_calib import enable_stats_collection
from modelopt.torch.quantization.nn import TensorQuantizer
from torch import nn

from benchmarks.models import Batch
from tests.peers.speed.job import Job, Peer, run_all

_HISTOGRAM = ("percentile", "mse", "entropy")


def _jobs(model: nn.Module, batch: Batch) -> Iterator[Job]:
    inserted = mtq.quantize(copy.deepcopy(model), {**mtq.INT8_DEFAULT_CFG, "algorithm": None})
    yield Job(
        measure="minmax",
        note="max",
        run=lambda batches: mtq.calibrate(inserted, "max", lambda model: run_all(model, batches)),
    )
    yield Job(measure="forward", note="INT8_DEFAULT_CFG", run=lambda batches: run_all(inserted, batches))
    for method in _HISTOGRAM:
        inserted = mtq.quantize(copy.deepcopy(model), {**mtq.INT8_DEFAULT_CFG, "algorithm": None})
        inputs = [
            module
            for name, module in inserted.named_modules()
            if isinstance(module, TensorQuantizer) and name.endswith("input_quantizer") and module.is_enabled
        ]

        def calibrate(batches, method=method, inserted=inserted, inputs=inputs):
            for quantizer in inputs:
                quantizer._calibrator = HistogramCalibrator(num_bits=8, axis=None)
            enable_stats_collection(inserted)
            run_all(inserted, batches)
            for module in inserted.modules():
                if isinstance(module, TensorQuantizer) and not module._disabled:
                    module.load_calib_amax(*([method] if module in inputs else []))
                    module.enable_quant()
                    module.disable_calib()

        yield Job(measure=method, note=f"histogram, {method}", run=calibrate)


PEER = Peer(title=f"ModelOpt {version('nvidia-modelopt')}", jobs=_jobs)
