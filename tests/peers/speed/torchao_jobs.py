"""torchao, PT2E with the quantizer of its own tests (that for x86 fails on resnets): pip install --no-deps torchao

It fails on MiniLM with a mask: it observes the integers that the mask is made of.
"""

from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import torch
from torch import nn
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver, MovingAverageMinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack

from benchmarks.models import Batch
from tests.peers.speed.job import Job, Peer, run_all

_OBSERVERS = {
    "minmax": MinMaxObserver,
    "moving_average": MovingAverageMinMaxObserver,
    "mse": HistogramObserver,
}


def _jobs(model: nn.Module, batch: Batch) -> Iterator[Job]:
    args, kwargs = ((), batch) if isinstance(batch, dict) else ((batch,), {})
    for measure, observer in _OBSERVERS.items():
        prepared = prepare_pt2e(torch.export.export(model, args, kwargs).module(), _quantizer(observer))

        def calibrate(batches, prepared=prepared):
            run_all(prepared, batches)
            for module in prepared.modules():
                if hasattr(module, "calculate_qparams"):
                    module.calculate_qparams()

        yield Job(measure=measure, note=f"PT2E for XNNPACK, {observer.__name__}", run=calibrate)
    run_all(prepared, [batch])
    converted = convert_pt2e(prepared)
    yield Job(measure="forward", note="PT2E for XNNPACK", run=lambda batches: run_all(converted, batches))


def _quantizer(observer: type) -> xnnpack.XNNPACKQuantizer:
    config = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
    spec = replace(config.input_activation, observer_or_fake_quant_ctr=observer.with_args(eps=2**-12))
    config = replace(config, input_activation=spec, output_activation=spec)
    return xnnpack.XNNPACKQuantizer().set_global(config)


PEER = Peer(title=f"torchao {version('torchao')}", jobs=_jobs)
