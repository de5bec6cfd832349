"""AIMET: pip install aimet-torch==2.42.0"""

import copy
from collections.abc import Iterator
from importlib.metadata import version

import torch
from torch import nn

from benchmarks.models import Batch
from tests.peers.speed.job import Job, Peer
from tests.zoo.torchvision_models import import_torchvision

import_torchvision()  # aimet-torch imports it, which fails beside a CPU build of torch without this
from aimet_torch.batch_norm_fold import fold_all_batch_norms  # noqa: E402
from aimet_torch.common.defs import QuantScheme  # noqa: E402
from aimet_torch.model_preparer import prepare_model  # noqa: E402
from aimet_torch.quantsim import QuantizationSimModel  # noqa: E402

_SCHEMES = {
    "minmax": QuantScheme.min_max,
    "percentile": QuantScheme.post_training_percentile,
    "sqnr": QuantScheme.post_training_tf_enhanced,
}


class _Positional(nn.Module):
    """A text model as AIMET traces it: positional arguments, one tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids, attention_mask)[0]


def _arguments(batch: Batch) -> tuple[torch.Tensor, ...]:
    return tuple(batch.values()) if isinstance(batch, dict) else (batch,)


def _as_modules(model: nn.Module, image: torch.Tensor) -> nn.Module:
    """Return a model as AIMET asks for it: modules for functions where it manages, batch norms folded."""
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            module.__class__ = nn.LayerNorm  # AIMET knows no class derived from it, such as timm's
    try:
        prepared = prepare_model(copy.deepcopy(model))
        QuantizationSimModel(prepared, image)
        model = prepared
    except Exception as error:  # it traces symbolically, and has no quantized class for all it makes
        print(f"not prepared: {str(error)[:200]}")
    fold_all_batch_norms(model, tuple(image.shape), dummy_input=image)
    return model


def _jobs(model: nn.Module, batch: Batch) -> Iterator[Job]:
    traced = _Positional(model) if isinstance(batch, dict) else _as_modules(model, batch)
    for measure, scheme in _SCHEMES.items():
        sim = QuantizationSimModel(
            traced, _arguments(batch), quant_scheme=scheme, default_output_bw=8, default_param_bw=8
        )
        if measure == "percentile":
            sim.set_percentile_value(99.99)

        def calibrate(batches, sim=sim):
            sim.compute_encodings(lambda model: [model(*_arguments(one)) for one in batches])

        yield Job(measure=measure, note=scheme.name, run=calibrate)
    sim.compute_encodings(lambda model: model(*_arguments(batch)))
    simulated = sim.model
    yield Job(
        measure="forward",
        note="QuantizationSimModel",
        run=lambda batches: [simulated(*_arguments(one)) for one in batches] and None,
    )


PEER = Peer(title=f"AIMET {version('aimet-torch')}", jobs=_jobs)
