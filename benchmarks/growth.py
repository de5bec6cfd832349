"""How the cost of calibration grows with batches, layers and channels."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

import fxquant
from benchmarks.timing import Row
from fxquant.calibration import METHODS

EXPONENT = "exponent"  # in place of a size
ROUNDS, BATCHES = 3, 4
_IMAGE = (4, 16, 16)  # rows, height, width


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What grows, its sizes, and the job of a size: a model, an input and a number of batches."""

    name: str
    sizes: Sequence[int]
    job: Callable[[int], tuple[nn.Module, torch.Tensor, int]]


def measure_growth() -> list[Row]:
    """Return seconds of `prepare` and of each method by size, and the exponent of the larger sizes."""
    torch.set_num_threads(1)
    return [row for axis in AXES for row in measure_axis(axis)]


def measure_axis(axis: Axis) -> list[Row]:
    """Return the rows of one axis, that of the exponents last."""
    found = {size: _seconds_of(*axis.job(size)) for size in axis.sizes}
    rows = [_row(axis.name, str(size), seconds, ".3f") for size, seconds in found.items()]
    larger = list(found)[len(found) // 2 :] if len(found) > 2 else list(found)
    exponents = {what: _exponent({size: found[size][what] for size in larger}) for what in found[larger[0]]}
    return [*rows, _row(axis.name, EXPONENT, exponents, ".2f")]


def _row(name: str, size: str, values: dict[str, float], form: str) -> Row:
    return {"grows": name, "size": size, **{what: format(value, form) for what, value in values.items()}}


def _exponent(seconds: dict[int, float]) -> float:
    """Return the slope of the line of least squares through the logarithms."""
    logs = [(math.log(size), math.log(value)) for size, value in seconds.items()]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope


def _seconds_of(model: nn.Module, batch: torch.Tensor, num_batches: int) -> dict[str, float]:
    model.eval()
    prepared = fxquant.prepare(model, batch, target="onnxruntime")
    batches = [batch + step / num_batches for step in range(num_batches)]
    jobs: dict[str, Callable[[], object]] = {
        "prepare": lambda: fxquant.prepare(model, batch, target="onnxruntime")
    }
    for method in METHODS:
        jobs[method] = lambda method=method: fxquant.calibrate(prepared, batches, method=method)
    # The first round sets things up; the median passes over it.
    rounds = [{what: _process_seconds(job) for what, job in jobs.items()} for _ in range(ROUNDS)]
    return {what: statistics.median(measured[what] for measured in rounds) for what in jobs}


def _process_seconds(job: Callable[[], object]) -> float:
    start = time.process_time()
    job()
    return time.process_time() - start


def _of_batches(size: int) -> tuple[nn.Module, torch.Tensor, int]:
    model = nn.Sequential(nn.Conv2d(3, 16, 3), *(_conv(16) for _ in range(7)))
    return model, torch.randn(_IMAGE[0], 3, *_IMAGE[1:]), size


def _of_layers(size: int) -> tuple[nn.Module, torch.Tensor, int]:
    return nn.Sequential(*(nn.Linear(16, 16) for _ in range(size))), torch.randn(8, 16), BATCHES


def _of_channels(size: int) -> tuple[nn.Module, torch.Tensor, int]:
    """Depthwise, so that activations and weights both grow with the channels and not with their square."""
    model = nn.Sequential(*(_conv(size, groups=size) for _ in range(4)))
    return model, torch.randn(_IMAGE[0], size, *_IMAGE[1:]), BATCHES


def _conv(channels: int, groups: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, groups=groups), nn.ReLU())


AXES = (
    Axis(name="batches", sizes=(1, 4, 16, 64, 256), job=_of_batches),
    Axis(name="layers", sizes=(10, 30, 100, 300, 1000), job=_of_layers),
    Axis(name="channels", sizes=(16, 64, 256, 1024, 4096), job=_of_channels),
)
