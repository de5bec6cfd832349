"""brevitas: layerwise int8 or int4 weights and int8 inputs, alone and with GPTQ."""

import copy
from collections.abc import Iterator
from importlib.metadata import version

import torch
from brevitas.graph.calibrate import calibration_mode
from brevitas.graph.gptq import gptq_mode
from brevitas.graph.quantize import LAYERWISE_COMPUTE_LAYER_MAP, layerwise_quantize
from brevitas.quant import Int8WeightPerChannelFloat
from torch import nn

from benchmarks.accuracy.cases import Case
from benchmarks.models import run
from tests.peers.accuracy.job import Job, Peer
from tests.peers.speed.job import run_all


def _jobs(name: str) -> Iterator[Job]:
    for setting, bits in {"W8A8": 8, "W4A8": 4}.items():
        for recipe in ("layerwise", "layerwise, GPTQ"):

            def quantize(case: Case, bits=bits, recipe=recipe):
                return _quantized(case, bits, is_gptq="GPTQ" in recipe)

            yield Job(setting=setting, recipe=recipe, quantize=quantize)


def _quantized(case: Case, bits: int, *, is_gptq: bool):
    layers = {
        kind: (made[0], {**made[1], "weight_quant": Int8WeightPerChannelFloat, "weight_bit_width": bits})
        for kind, made in LAYERWISE_COMPUTE_LAYER_MAP.items()
        if made and "input_quant" in made[1] and kind is not nn.MultiheadAttention
    }
    quantized = layerwise_quantize(copy.deepcopy(case.model), compute_layer_map=layers).eval()
    with torch.no_grad():
        with calibration_mode(quantized):
            run_all(quantized, case.calibration)
        if is_gptq:
            with gptq_mode(quantized, use_quant_activations=True) as gptq:
                for _ in range(gptq.num_layers):
                    run_all(gptq.model, case.calibration)
                    gptq.update()
    return lambda batch: run(quantized, batch)


PEER = Peer(title=f"brevitas {version('brevitas')}", jobs=_jobs)
