"""Timings of the verbs, as ratios to the float model."""

import copy
from collections.abc import Callable

import torch

import fxquant
from benchmarks.timing import Row, ratios
from tests.zoo.torchvision_models import build

MODELS = ("resnet18", "mobilenet_v2")


def measure_models() -> list[Row]:
    """Return one row per model: each verb against the float forward."""
    torch.set_num_threads(1)
    return [_measure_model(name) for name in MODELS]


def _measure_model(name: str) -> Row:
    model, batch = build(name), torch.randn(8, 3, 96, 96)
    prepared = fxquant.prepare(model, target="onnxruntime")
    fxquant.calibrate(prepared, [batch])
    quantized = fxquant.convert(prepared)
    integer = fxquant.convert(prepared, arithmetic="integer")
    other = copy.deepcopy(prepared)  # calibrating changes ranges, and weights are quantized anew behind it
    with torch.no_grad():
        steps: dict[str, Callable[[], object]] = {
            "prepare": lambda: fxquant.prepare(model, target="onnxruntime"),
            "calibrate, minmax": lambda: fxquant.calibrate(other, [batch]),
            "forward, prepared": lambda: prepared(batch),
            "forward, quantized": lambda: quantized(batch),
            "forward, integer": lambda: integer(batch),
        }
        return {"model": name, **ratios(steps, lambda: model(batch))}
