"""Memory and time of calibrating a language model whose parameters stay in files, block by block.

``python -m benchmarks.large --hidden 2048 --layers 12 --vocabulary 32000`` takes a model of 2.9 GiB.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

import fxquant
from benchmarks.timing import Row, peak_memory, resident_memory, table_of
from tests.zoo.architectures import import_transformers

WAYS = ("whole", "cpu", "disk")
_BATCHES, _ROWS, _TOKENS = 4, 2, 64
_ROUNDS = 3
_SMALL = (512, 8, 8000)


def measure_large(hidden: int = _SMALL[0], layers: int = _SMALL[1], vocabulary: int = _SMALL[2]) -> list[Row]:
    """Return one row per way to calibrate, each measured in a fresh process; memory in MiB.

    Args:
        hidden: Width of the model.
        layers: Number of its layers.
        vocabulary: Number of its tokens.
    """
    sizes = (hidden, layers, vocabulary)
    with tempfile.TemporaryDirectory() as folder:
        _write(folder, sizes)
        found = {way: _figures(folder, way, sizes) for way in WAYS}
    return [_row(way, found) for way in WAYS]


def _row(way: str, found: dict[str, dict[str, Any]]) -> Row:
    run = found[way]
    assert run["scales"] == found["whole"]["scales"], "the ranges differ"
    return {
        "activations": "not offloaded" if way == "whole" else way,
        "parameters": f"{run['parameters']:.0f}",
        "largest block": f"{run['block']:.0f}",
        "prepare": f"{run['prepare'] - run['start']:.0f}",
        "held then": f"{run['held'] - run['start']:.0f}",
        "calibrate": f"{run['calibrate'] - run['held']:.0f}",
        "convert": f"{run['convert'] - run['held']:.0f}",
        "integers": f"{run['codes']:.0f}",
        "time": f"{run['time']:.2f}",
    }


def _figures(folder: str, way: str, sizes: tuple[int, int, int]) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.large", folder, way, *map(str, sizes)]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    return found


def _run_one(folder: str, way: str, sizes: tuple[int, int, int]) -> None:
    """Take the model through the verbs; print the peak memory of each in MiB, and the time of calibrating."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = _model(sizes)
    fxquant.load_shards(model, folder)
    batches = [{"input_ids": torch.randint(0, sizes[2], (_ROWS, _TOKENS))} for _ in range(_BATCHES)]
    layer = sum(parameter.nbytes for parameter in model.model.layers[0].parameters())
    offload = None if way == "whole" else fxquant.Offload(activations=way, block_bytes=layer)
    start = resident_memory()
    prepared, prepare = _peak(lambda: fxquant.prepare(model, batches[0], target="onnxruntime"))
    held = resident_memory()
    _, calibrate = _peak(lambda: fxquant.calibrate(prepared, batches, offload=offload))
    quantized, convert = _peak(lambda: fxquant.convert(prepared))
    peaks = {"start": start, "prepare": prepare, "held": held, "calibrate": calibrate, "convert": convert}
    scales = [buffer for name, buffer in quantized.named_buffers() if name.endswith("scale")]
    rounds = [
        (
            _seconds(lambda: fxquant.calibrate(prepared, batches, offload=offload)),
            _seconds(lambda: fxquant.calibrate(prepared, batches)),
        )
        for _ in range(_ROUNDS)
    ]
    figures = {
        "parameters": sum(parameter.nbytes for parameter in model.parameters()) / 2**20,
        "codes": sum(buffer.nbytes for buffer in quantized.buffers()) / 2**20,
        "block": max(layer, *(parameter.nbytes for parameter in model.parameters())) / 2**20,
        "scales": sum(float(scale.double().sum()) for scale in scales),
        "time": statistics.median(ours / whole for ours, whole in rounds),
    }
    print(json.dumps(figures | {step: size / 1024 for step, size in peaks.items()}))


def _peak(step: Callable[[], Any]) -> tuple[Any, int]:
    """Return what a step gives, and the peak memory of the process during it, in KiB."""
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak
    result = step()
    return result, peak_memory()


def _seconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def _model(sizes: tuple[int, int, int]) -> Any:

    transformers = import_transformers()
    hidden, layers, vocabulary = sizes
    config = transformers.LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=hidden * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        use_cache=False,
    )
    with fxquant.parameters_on_meta():
        return transformers.LlamaForCausalLM(config).eval()


def _write(folder: str, sizes: tuple[int, int, int]) -> None:
    """Write random parameters, a file for each layer."""
    torch.manual_seed(0)
    shards: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in _model(sizes).named_parameters():
        shards.setdefault(".".join(name.split(".")[:3]), {})[name] = parameter
    for shard, parameters in shards.items():
        values = {name: _values(tuple(parameter.shape)) for name, parameter in parameters.items()}
        save_file(values, Path(folder) / f"{shard}.safetensors")


def _values(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape) * 0.02 if len(shape) > 1 else torch.ones(shape)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("one", nargs="*", help="internal: folder, way and sizes of one run")
    parser.add_argument("--hidden", type=int, default=_SMALL[0])
    parser.add_argument("--layers", type=int, default=_SMALL[1])
    parser.add_argument("--vocabulary", type=int, default=_SMALL[2])
    given = parser.parse_args()
    if given.one:
        folder, way, *numbers = given.one
        _run_one(folder, way, (int(numbers[0]), int(numbers[1]), int(numbers[2])))
    else:
        print(table_of(measure_large(given.hidden, given.layers, given.vocabulary)))
