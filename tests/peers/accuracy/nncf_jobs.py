"""NNCF: nncf.quantize with its defaults, which correct biases, and with smooth quantization for transformers."""

import copy
from collections.abc import Iterator
from importlib.metadata import version

import nncf

from benchmarks.accuracy.cases import Case
from benchmarks.models import run
from tests.peers.accuracy.job import Job, Peer


def _jobs(name: str) -> Iterator[Job]:
    kinds = {"defaults": None, "ModelType.TRANSFORMER": nncf.ModelType.TRANSFORMER}
    for title, kind in kinds.items():
        if (name in ("MiniLM", "Llama")) or kind is None:

            def quantize(case: Case, kind=kind):
                batches = case.calibration
                quantized = nncf.quantize(
                    copy.deepcopy(case.model),
                    nncf.Dataset(batches),
                    subset_size=len(batches),
                    model_type=kind,
                    fast_bias_correction=True,
                )
                return lambda batch: run(quantized, batch)

            yield Job(setting="W8A8", recipe=title, quantize=quantize)


PEER = Peer(title=f"NNCF {version('nncf')}", jobs=_jobs)
