"""Exported files: time and memory of writing them, their size, and their latency in ONNX Runtime."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from torch import nn

import fxquant
from benchmarks.capture import build
from benchmarks.timing import Row, peak_memory
from fxquant.graph import Example

MODELS = ("resnet18", "mobilenetv2_100", "vit_tiny_patch16_224", "text encoder")
_EXPORTS, _RUNS = 3, 30


def measure_files() -> list[Row]:
    """Return one row per model: export, size and latency, each against the float model's."""
    torch.set_num_threads(1)
    return [_measure(name) for name in MODELS]


def _measure(name: str) -> Row:
    model, example = build(name)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        quantized = _quantized(model, example)
        plain, own = Path(folder) / "float.onnx", Path(folder) / "own"
        _export_float(model, example, plain, is_dynamic=False)  # the first call sets things up
        rounds = [
            (
                _seconds(lambda: _export_float(model, example, plain, is_dynamic=False)),
                _seconds(lambda: _export_float(model, example, plain, is_dynamic=True)),
                _seconds(lambda: fxquant.export(quantized, own)),
            )
            for _ in range(_EXPORTS)
        ]
        files = own / "model.onnx"
        peaks = {what: _peak(name, what) for what in ("float", "own")}
        return {
            "model": name,
            "export": _ratio([(ours, dynamic) for _, dynamic, ours in rounds]),
            "against fixed sizes": _ratio([(ours, fixed) for fixed, _, ours in rounds]),
            "peak memory": f"{peaks['own'] / peaks['float']:.2f}",
            "size": f"{files.stat().st_size / plain.stat().st_size:.3f}",
            "latency": _latency(example, files, plain),
        }


def _quantized(model: nn.Module, example: Example) -> Any:
    prepared = fxquant.prepare(model, example, target="onnxruntime")
    fxquant.calibrate(prepared, [example])
    return fxquant.convert(prepared)


def _export_float(model: nn.Module, example: Example, path: Path, *, is_dynamic: bool) -> None:
    batch = torch.export.Dim("batch")
    shapes = {name: {0: batch} for name in example.kwargs} or tuple({0: batch} for _ in example.args)
    torch.onnx.export(
        model,
        example.args,
        str(path),
        kwargs=example.kwargs,
        dynamo=True,
        verbose=False,
        external_data=False,
        dynamic_shapes=shapes if is_dynamic else None,
    )


def _latency(example: Example, quantized: Path, plain: Path) -> str:
    """Return the time of one run in ONNX Runtime on one thread, against the float file's, in turns."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    sessions = [onnxruntime.InferenceSession(str(path), options) for path in (quantized, plain)]
    tensors = [tensor[:1].numpy() for tensor in example.tensors()]
    steps: list[Callable[[], object]] = []
    for session in sessions:
        feeds = {value.name: tensor for value, tensor in zip(session.get_inputs(), tensors, strict=True)}
        steps.append(lambda session=session, feeds=feeds: session.run(None, feeds))
    rounds = [[_seconds(step) for step in steps] for _ in range(_RUNS)]
    return _ratio([(ours, theirs) for ours, theirs in rounds[3:]])


def _ratio(pairs: list[tuple[float, float]]) -> str:
    return f"{statistics.median(ours / theirs for ours, theirs in pairs):.2f}"


def _seconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def _peak(name: str, what: str) -> int:
    """Return the peak memory of a fresh process that writes a model, in KiB."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.files", name, what]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _run_one(name: str, what: str) -> None:
    torch.set_num_threads(1)
    model, example = build(name)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        if what == "own":
            fxquant.export(_quantized(model, example), folder)
        else:
            model(*example.args, **example.kwargs)
            _export_float(model, example, Path(folder) / "float.onnx", is_dynamic=True)
    print(peak_memory())


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("what", choices=["float", "own"])
    given = parser.parse_args()
    _run_one(given.name, given.what)
