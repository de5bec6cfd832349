"""The simulated forward, eager and compiled, prepare, and the job's peak memory, against float forwards."""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import fx, nn

import fxquant
from benchmarks import capture
from benchmarks.timing import Row, peak_memory, ratios
from fxquant.graph import Example
from tests.zoo.torchvision_models import import_torchvision

MODELS = ("resnet18", "resnet50", "mobilenet_v2", "vit_tiny_patch16_224", "text encoder")
TARGETS = ("onnxruntime",)  # the others differ little and compiling takes minutes
_SYMBOLIC = ("resnet18", "resnet50", "mobilenet_v2")  # which torch.fx traces without inputs
_COMPILED_CALLS = 7


def measure_simulation(models: tuple[str, ...] = MODELS, targets: tuple[str, ...] = TARGETS) -> list[Row]:
    """Return one row per target and model: the simulation in float forwards on the same inputs."""
    torch.set_num_threads(1)
    return [_measure(name, target) for target in targets for name in models]


def _measure(name: str, target: str) -> Row:
    model, example = build(name)
    prepared, quantized = _prepared(model, example, target)
    steps: dict[str, Callable[[], object]] = {
        "forward, prepared": lambda: _run(prepared, example),
        "forward, quantized": lambda: _run(quantized, example),
        "prepare, recorded": lambda: fxquant.prepare(model, _inputs(example), target),
    }
    if name in _SYMBOLIC:
        steps["prepare, traced"] = lambda: fxquant.prepare(model, target=target)
    with torch.no_grad():
        timed = ratios(steps, lambda: _run(model, example))
        compiled = _compiled_ratios(model, {"prepared": prepared, "quantized": quantized}, example)
    job, forward = _peak(name, target, "job"), _peak(name, target, "forward")
    row = {"target": target, "model": name} | {
        step: timed.get(step, "-") for step in (*steps, "prepare, traced")
    }
    return row | compiled | {"peak memory": f"{job / forward:.2f}"}


def build(name: str) -> tuple[nn.Module, Example]:
    """Return a model with random weights and a call of it: 8 images of 224 x 224 or texts of 128 tokens."""
    if name in _SYMBOLIC:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = getattr(import_torchvision().models, name)(weights=None)
        return model.eval(), Example(args=(torch.randn(capture.ROWS, 3, 224, 224),))
    return capture.build(name)


def _prepared(model: nn.Module, example: Example, target: str) -> tuple[fx.GraphModule, fx.GraphModule]:
    prepared = fxquant.prepare(model, _inputs(example), target)
    fxquant.calibrate(prepared, [_inputs(example)])
    return prepared, fxquant.convert(prepared)


def _compiled_ratios(model: nn.Module, others: dict[str, nn.Module], example: Example) -> Row:
    """Return each compiled model's time over that of the compiled float model, in the same rounds."""
    base = torch.compile(model)
    compiled = {name: torch.compile(other) for name, other in others.items()}
    rounds: dict[str, list[float]] = {name: [] for name in compiled}
    for call in (base, *compiled.values()):
        _run(call, example)
    for _ in range(_COMPILED_CALLS):
        floor = _seconds(base, example)
        for name, call in compiled.items():
            rounds[name].append(_seconds(call, example) / floor)
    torch._dynamo.reset()
    return {f"compiled, {name}": f"{statistics.median(measured):.2f}" for name, measured in rounds.items()}


def _seconds(call: Callable[..., object], example: Example) -> float:
    start = time.process_time()
    _run(call, example)
    return time.process_time() - start


def _run(call: Callable[..., object], example: Example) -> object:
    return call(*example.args, **example.kwargs)


def _inputs(example: Example) -> object:
    return example.args or example.kwargs


def _peak(name: str, target: str, what: str) -> int:
    """Return the peak memory of a fresh process in KiB."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.simulation", name, target, what]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _run_one(name: str, target: str, what: str) -> None:
    torch.set_num_threads(1)
    model, example = build(name)
    with torch.no_grad():
        if what == "job":
            quantized = _prepared(model, example, target)[1]
            _run(quantized, example)
        else:
            for _ in range(2):
                _run(model, example)
    print(peak_memory())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("what", choices=("forward", "job"))
    options = parser.parse_args()
    _run_one(options.name, options.target, options.what)
