"""Timings of the verbs and of the quantizer, as ratios."""

import statistics
import time
from collections.abc import Callable

import torch

import fxquant
from fxquant.quantization.affine import QuantizeDequantize
from tests.zoo.torchvision_models import build

ROUNDS = 9
MODELS = ("resnet18", "mobilenet_v2")

Row = dict[str, str]


def measure_models() -> list[Row]:
    """Return one row per model: each verb against the float forward."""
    torch.set_num_threads(1)
    return [_measure_model(name) for name in MODELS]


def measure_quantizer() -> list[Row]:
    """Return one row per kind of quantizer: its forward against a copy of the tensor."""
    torch.set_num_threads(1)
    tensor = torch.randn(8, 64, 112, 112)
    rows = []
    for label, shape, symmetric in (
        ("per tensor, asymmetric", (), False),
        ("per tensor, symmetric", (), True),
        ("per channel, symmetric", (64, 1, 1), True),
    ):
        quantizer = QuantizeDequantize(shape, 8, symmetric)
        with quantizer.compute_encodings():
            quantizer(tensor)
        with torch.no_grad():
            ratios = _ratios({"fxquant": lambda q=quantizer: q(tensor)}, tensor.clone)
        rows.append({"quantizer": label, **ratios})
    with torch.no_grad():
        native = _ratios(
            {"fxquant": lambda: torch.fake_quantize_per_tensor_affine(tensor, 0.02, 128, 0, 255)},
            tensor.clone,
        )
    rows.append({"quantizer": "torch.fake_quantize_per_tensor_affine, for comparison", **native})
    return rows


def table_of(rows: list[Row]) -> str:
    """Return rows as a Markdown table."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _measure_model(name: str) -> Row:
    model, batch = build(name), torch.randn(8, 3, 96, 96)
    prepared = fxquant.prepare(model, target="onnxruntime")
    fxquant.calibrate(prepared, [batch])
    quantized = fxquant.convert(prepared)
    with torch.no_grad():
        steps: dict[str, Callable[[], object]] = {
            "prepare": lambda: fxquant.prepare(model, target="onnxruntime"),
            "calibrate, minmax": lambda: fxquant.calibrate(prepared, [batch]),
            "forward, prepared": lambda: prepared(batch),
            "forward, quantized": lambda: quantized(batch),
        }
        return {"model": name, **_ratios(steps, lambda: model(batch))}


def _ratios(steps: dict[str, Callable[[], object]], base: Callable[[], object]) -> Row:
    """Return the median over rounds of each step's time over the base's in the same round."""
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(ROUNDS + 1):
        floor = min(_seconds(base), _seconds(base))
        for name, step in steps.items():
            seconds = _seconds(step)
            if index:  # the first round warms up
                rounds[name].append(seconds / floor)
    return {name: f"{statistics.median(ratios):.2f}" for name, ratios in rounds.items()}


def _seconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start
