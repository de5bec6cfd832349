"""NVIDIA ModelOpt: its configurations for int8, SmoothQuant and AWQ, and blocks of 32."""

import copy
from collections.abc import Iterator
from importlib.metadata import version

import modelopt.torch.quantization as mtq

from benchmarks.accuracy.cases import Case
from benchmarks.models import run
from tests.peers.accuracy.job import Job, Peer
from tests.peers.speed.job import run_all


def _blocks_of_32(algorithm: object) -> dict:
    config = copy.deepcopy(mtq.INT4_AWQ_CFG)
    text = config["quant_cfg"]
    for rule in text.values() if isinstance(text, dict) else text:
        parts = rule if isinstance(rule, dict) else {}
        for one in (parts, parts.get("cfg") or {}):
            if isinstance(one, dict) and "block_sizes" in one:
                one["block_sizes"] = {**one["block_sizes"], -1: 32}
    return {**config, "algorithm": algorithm}


def _jobs(name: str) -> Iterator[Job]:
    awq = copy.deepcopy(mtq.INT4_AWQ_CFG["algorithm"])
    configs = [("W8A8", "INT8_DEFAULT_CFG", mtq.INT8_DEFAULT_CFG)]
    if name in ("MiniLM", "Llama"):
        configs += [
            ("W8A8", "INT8_SMOOTHQUANT_CFG", mtq.INT8_SMOOTHQUANT_CFG),
            ("W4, blocks of 32", "max", _blocks_of_32("max")),
            ("W4, blocks of 32", "INT4_AWQ_CFG", _blocks_of_32(awq)),
        ]
    for setting, title, config in configs:

        def quantize(case: Case, config=config):
            quantized = mtq.quantize(
                copy.deepcopy(case.model), config, lambda model: run_all(model, case.calibration)
            )
            return lambda batch: run(quantized, batch)

        yield Job(setting=setting, recipe=title, quantize=quantize)


PEER = Peer(title=f"ModelOpt {version('nvidia-modelopt')}", jobs=_jobs)
