"""AIMET: min-max, then its equalization, AdaRound and sequential MSE, on the digits networks."""

import copy
import tempfile
from collections.abc import Iterator
from importlib.metadata import version

from benchmarks.accuracy.cases import Case
from tests.peers.accuracy.job import Job, Peer
from tests.zoo.torchvision_models import import_torchvision

import_torchvision()  # aimet-torch imports it, which fails beside a CPU build of torch without this
from aimet_torch.adaround.adaround_weight import Adaround, AdaroundParameters  # noqa: E402
from aimet_torch.batch_norm_fold import fold_all_batch_norms  # noqa: E402
from aimet_torch.common.defs import QuantScheme  # noqa: E402
from aimet_torch.cross_layer_equalization import equalize_model  # noqa: E402
from aimet_torch.model_preparer import prepare_model  # noqa: E402
from aimet_torch.quantsim import QuantizationSimModel  # noqa: E402
from aimet_torch.seq_mse import apply_seq_mse  # noqa: E402

_ITERATIONS = 1000  # of AdaRound, per layer; its default is 15,000, an hour here
_BITS = {"W8A8": 8, "W4A8": 4}


def _jobs(name: str) -> Iterator[Job]:
    if name in ("MiniLM", "Llama"):
        return
    for setting, bits in _BITS.items():
        for recipe in ("min-max", "CLE", "CLE, AdaRound", "CLE, SeqMSE"):

            def quantize(case: Case, bits=bits, recipe=recipe):
                return _quantized(case, bits, recipe)

            note = f", {_ITERATIONS} iterations" if "AdaRound" in recipe else ""
            yield Job(setting=setting, recipe=recipe + note, quantize=quantize)


def _quantized(case: Case, bits: int, recipe: str):
    batches, image = case.calibration, case.calibration[0]
    model = prepare_model(copy.deepcopy(case.model))
    if "CLE" in recipe:
        equalize_model(model, dummy_input=image)
    else:
        fold_all_batch_norms(model, tuple(image.shape), dummy_input=image)
    with tempfile.TemporaryDirectory() as folder:
        if "AdaRound" in recipe:
            parameters = AdaroundParameters(
                batches, len(batches), _ITERATIONS, forward_fn=lambda model, batch: model(batch)
            )
            model = Adaround.apply_adaround(
                model, image, parameters, folder, "rounded", default_param_bw=bits
            )
        sim = QuantizationSimModel(
            model, image, quant_scheme=QuantScheme.min_max, default_output_bw=8, default_param_bw=bits
        )
        if "AdaRound" in recipe:
            sim.set_and_freeze_param_encodings(f"{folder}/rounded.encodings")
    if "SeqMSE" in recipe:
        apply_seq_mse(sim, batches, forward_fn=lambda model, batch: model(batch))
    sim.compute_encodings(lambda model: [model(batch) for batch in batches])
    return sim.model


PEER = Peer(title=f"AIMET {version('aimet-torch')}", jobs=_jobs)
