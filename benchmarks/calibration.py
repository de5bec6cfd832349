"""Calibration: its time in float forwards of the same batches, for every method."""

import torch

import fxquant
from benchmarks.models import MODELS, batches_of, label_of, load, run
from benchmarks.pairing import paired_ratio
from benchmarks.timing import Row
from fxquant.calibration import METHODS

BATCHES, ROUNDS = 16, 3
_BATCHES_OF_LARGE = {"resnet50": 8}  # several times as slow as the others


def measure_calibration() -> list[Row]:
    """Return one row per model: each method's processor time over that of the float forwards."""
    return [measure_model(name, _BATCHES_OF_LARGE.get(name, BATCHES), ROUNDS) for name in MODELS]


def measure_model(name: str, num_batches: int, rounds: int) -> Row:
    """Return the row of one model; "spread" is the widest difference between two rounds of a method."""
    torch.set_num_threads(1)
    model, batches = load(name), list(batches_of(name, num_batches))
    prepared = fxquant.prepare(model, batches[0], target="onnxruntime")
    with torch.no_grad():
        found = {
            method: paired_ratio(
                lambda batches, method=method: fxquant.calibrate(prepared, batches, method=method),
                lambda batch: run(model, batch),
                batches,
                rounds,
            )
            for method in METHODS
        }
    return {
        "model": label_of(name),
        "batches": str(num_batches),
        **{method: f"{ratio.median:.2f}" for method, ratio in found.items()},
        "spread": f"{max(ratio.spread for ratio in found.values()):.2f}",
    }
