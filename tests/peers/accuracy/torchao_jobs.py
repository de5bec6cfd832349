"""torchao: dynamic int8 linear layers, and PT2E with the quantizer of its own tests, per-channel weights.

PT2E would observe the integers that a text model makes its mask and positions of, and fail: they are inputs here.
"""

import copy
from collections.abc import Iterator
from importlib.metadata import version

import torch
from torch import Tensor, nn
from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_
from torchao.quantization.pt2e import HistogramObserver, MinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from benchmarks.accuracy.cases import Case
from benchmarks.models import Batch, run
from tests.peers.accuracy.job import Job, Peer
from tests.peers.speed.job import run_all
from tests.peers.speed.torchao_jobs import _quantizer


class _MadeOutside(nn.Module):
    """A BERT that is handed its additive mask, [N, 1, tokens, tokens], its positions and its segments."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, mask: Tensor, positions: Tensor, segments: Tensor) -> Tensor:
        return self.model(
            input_ids=input_ids, attention_mask=mask, position_ids=positions, token_type_ids=segments
        )[0]


def _inputs(batch: Batch) -> Batch:
    if not isinstance(batch, dict):
        return batch
    ids, seen = batch["input_ids"], batch["attention_mask"].float()
    rows, tokens = ids.shape
    mask = ((1 - seen) * torch.finfo(torch.float32).min)[:, None, None].expand(rows, 1, tokens, tokens)
    positions = torch.arange(tokens).expand(rows, tokens)
    return {"input_ids": ids, "mask": mask, "positions": positions, "segments": torch.zeros_like(ids)}


def _dynamic(case: Case):
    quantized = copy.deepcopy(case.model)
    quantize_(quantized, Int8DynamicActivationInt8WeightConfig())
    return lambda batch: run(quantized, batch)


def _jobs(name: str) -> Iterator[Job]:
    if name in ("MiniLM", "Llama"):
        yield Job(setting="W8A8", recipe="dynamic, linear layers alone", quantize=_dynamic)
    if name == "Llama":
        return  # it makes its mask and positions of integers, deep inside
    for title, observer in {"PT2E, min-max": MinMaxObserver, "PT2E, histogram": HistogramObserver}.items():

        def quantize(case: Case, observer=observer):
            batches = [_inputs(batch) for batch in case.calibration]
            model = _MadeOutside(case.model.model) if name == "MiniLM" else case.model
            args, kwargs = ((), batches[0]) if name == "MiniLM" else ((batches[0],), {})
            rows = {0: torch.export.Dim.AUTO}
            shapes = dict.fromkeys(kwargs, rows) if kwargs else (rows,)
            exported = torch.export.export(model, args, kwargs, dynamic_shapes=shapes).module()
            prepared = prepare_pt2e(exported, _quantizer(observer))
            run_all(prepared, batches)
            converted = convert_pt2e(prepared)
            return lambda batch: run(converted, _inputs(batch))

        yield Job(setting="W8A8", recipe=title, quantize=quantize)


PEER = Peer(title=f"torchao {version('torchao')}", jobs=_jobs)
