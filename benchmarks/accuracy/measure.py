"""Accuracy of fxquant: every model, setting and recipe, of the simulation and of the file in ONNX Runtime."""

import copy
import tempfile
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import torch

import fxquant
from benchmarks.accuracy.cases import Case, load_case
from benchmarks.accuracy.recipe import Recipe
from benchmarks.accuracy.settings import SETTINGS
from benchmarks.models import Batch, run
from benchmarks.timing import Row
from fxquant.runtimes import OnnxRuntime


def measure_cases(
    names: Collection[str], settings: Collection[str], recipes: Collection[str]
) -> Iterator[Row]:
    """Yield a row per model, setting and recipe."""
    torch.set_num_threads(1)
    for name in names:
        case = load_case(name)
        for setting in settings:
            prepared = fxquant.prepare(case.model, case.calibration[0], target=SETTINGS[setting])
            for recipe in recipes:
                yield {
                    "model": name,
                    "setting": setting,
                    "tool": "**fxquant**",
                    "recipe": recipe,
                    **measure_recipe(case, copy.deepcopy(prepared), recipe),
                }


def measure_recipe(case: Case, prepared: torch.fx.GraphModule, recipe: str) -> Row:
    """Return what a recipe leaves of a prepared model's accuracy, and the seconds that it took."""
    start = time.process_time()
    Recipe.of(recipe).apply(prepared, case.calibration)
    seconds = time.process_time() - start
    quantized = fxquant.convert(prepared)
    with tempfile.TemporaryDirectory() as folder:
        session = OnnxRuntime(fxquant.export(quantized, Path(folder)).onnx)
        ran = case.measure(lambda batch: _run(session, batch))
    return {
        "simulation": str(case.measure(lambda batch: run(quantized, batch))),
        "ONNX Runtime": str(ran),
        "seconds": f"{seconds:.1f}",
    }


def _run(session: OnnxRuntime, batch: Batch) -> object:
    tensors = batch if isinstance(batch, dict) else dict(zip(session.inputs, [batch], strict=True))
    return session.run({name: tensor.numpy() for name, tensor in tensors.items()})[session.outputs[0]]
