"""Capture by recording: its time in forwards, its peak memory against a forward's."""

import argparse
import subprocess
import sys
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.timing import Row, peak_memory, ratios
from fxquant.graph import Example
from fxquant.graph.capture import capture
from tests.zoo import architectures

ROWS = 8
MODELS = (
    "resnet18",
    "mobilenetv2_100",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
    "text encoder",
)


def measure_capture() -> list[Row]:
    """Return one row per model: capture against the float forward on the same inputs."""
    torch.set_num_threads(1)
    return [_measure(name) for name in MODELS]


def _measure(name: str) -> Row:
    model, example = build(name)
    forward, captured = _peak(name, "forward"), _peak(name, "capture")
    with torch.no_grad():
        steps: dict[str, Callable[[], object]] = {"time": lambda: capture(model, example)}
        timed = ratios(steps, lambda: model(*example.args, **example.kwargs))
    return {"model": name, **timed, "peak memory": f"{captured / forward:.2f}"}


def build(name: str) -> tuple[nn.Module, Example]:
    if name == "text encoder":  # the size of MiniLM
        transformers = architectures.import_transformers()
        sizes = {
            "hidden_size": 384,
            "num_hidden_layers": 6,
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        }
        model = transformers.BertModel(transformers.BertConfig(vocab_size=1000, **sizes)).eval()
        ids = torch.randint(3, 1000, (ROWS, 128))
        return model, Example(kwargs={"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    model, ((image,), _) = architectures.build(f"timm/{name}")
    return model, Example(args=(torch.randn(ROWS, *image.shape[1:]),))


def _peak(name: str, what: str) -> int:
    """Return the peak memory of a fresh process that runs a model, or captures it, in KiB."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.capture", name, what]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _run_one(name: str, what: str) -> None:
    torch.set_num_threads(1)
    model, example = build(name)
    with torch.no_grad():
        if what == "capture":
            capture(model, example)
        else:
            model(*example.args, **example.kwargs)
    print(peak_memory())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("what", choices=("forward", "capture"))
    options = parser.parse_args()
    _run_one(options.name, options.what)
