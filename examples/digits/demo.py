"""The main job: a trained network from float to verified integer ONNX, for two targets.

Quantizes the digits classifier for TensorRT and for ONNX Runtime, runs both files in ONNX Runtime on the
held-out third of the data, and prints one table.
"""

import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from data import Split, load_split
from model import DigitsNet, load_trained
from rich.console import Console
from rich.table import Table
from torch import nn

import fxquant
from fxquant.analysis import ParityReport
from fxquant.export import ExportedFiles

TARGETS = ("tensorrt", "onnxruntime")
BATCH = 128
CALIBRATION_BATCHES = 4


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one target."""

    simulated: float
    deployed: float
    parity: ParityReport
    files: ExportedFiles
    floats: dict[str, str]
    seconds: float


def main() -> None:
    split, model = load_split(), load_trained()
    with tempfile.TemporaryDirectory() as folder:
        float_file = export_float(model, split, Path(folder))
        outcomes = {target: quantize(model, split, target, Path(folder) / target) for target in TARGETS}
        print_table(accuracy(model, split), float_file.stat().st_size, outcomes)


def quantize(model: DigitsNet, split: Split, target: str, folder: Path) -> Outcome:
    """Run every verb once for one target."""
    start = time.perf_counter()
    prepared = fxquant.prepare(model, target=target)
    fxquant.calibrate(prepared, split.train_images.split(BATCH)[:CALIBRATION_BATCHES])
    quantized = fxquant.convert(prepared)
    files = fxquant.export(quantized, folder)
    parity = fxquant.verify(quantized, files, split.test_images.split(BATCH))
    return Outcome(
        simulated=accuracy(quantized, split),
        deployed=accuracy_in_onnxruntime(files.onnx, split),
        parity=parity,
        files=files,
        floats={
            site.node: f"{site.op} in '{site.layer}': {site.reason}"
            for site in fxquant.report(quantized).floats.values()
        },
        seconds=time.perf_counter() - start,
    )


def accuracy(model: nn.Module, split: Split) -> float:
    """Return the share of held-out images classified right, 0 to 1."""
    with torch.no_grad():
        return float((model(split.test_images).argmax(1) == split.test_labels).float().mean())


def accuracy_in_onnxruntime(path: Path, split: Split) -> float:
    """Return the share of held-out images that the file classifies right in ONNX Runtime, 0 to 1."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    logits = session.run(None, {session.get_inputs()[0].name: split.test_images.numpy()})[0]
    return float(np.mean(logits.argmax(1) == split.test_labels.numpy()))


def export_float(model: DigitsNet, split: Split, folder: Path) -> Path:
    """Write the float model as ONNX with nothing but the graph, the smallest float file there is."""
    path = folder / "float.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch.onnx's own
        program = torch.onnx.export(model, (split.test_images[:2],), dynamo=True, verbose=False)
    assert program is not None
    graph = program.model.graph
    for node in graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    program.save(str(path))
    return path


def print_table(float_accuracy: float, float_size: int, outcomes: dict[str, Outcome]) -> None:
    """Print one column per target."""
    table = Table("held-out third: 599 images", *outcomes, title="digits classifier, W8A8")
    results = list(outcomes.values())
    table.add_row("accuracy, float", *[f"{float_accuracy:.2%}" for _ in results])
    table.add_row("accuracy, simulation", *[f"{r.simulated:.2%}" for r in results])
    table.add_row("accuracy, file in ONNX Runtime", *[f"{r.deployed:.2%}" for r in results])
    table.add_row("same top-1, simulation and file", *[_share(r.parity) for r in results])
    table.add_row("largest difference, op by op", *[f"{r.parity.max_steps} step" for r in results])
    table.add_row("codes that differ, op by op", *[_differing(r.parity) for r in results])
    table.add_row("largest difference, end to end", *[f"{r.parity.max_drift} steps" for r in results])
    table.add_row("file size, float", *[f"{float_size:,} B" for _ in results])
    table.add_row(
        "file size, integer",
        *[
            f"{r.files.onnx.stat().st_size:,} B ({r.files.onnx.stat().st_size / float_size:.3f})"
            for r in results
        ],
    )
    table.add_row("ops left float", *[str(len(r.floats)) for r in results])
    table.add_row("seconds, all verbs", *[f"{r.seconds:.1f}" for r in results])
    console = Console(width=110)
    console.print(table)
    for target, outcome in outcomes.items():
        for why in outcome.floats.values():
            console.print(f"{target}: float stays {why}", markup=False)


def _share(parity: ParityReport) -> str:
    output = parity.outputs[0]
    return f"{output.same_top1} of {output.samples}"


def _differing(parity: ParityReport) -> str:
    differing = sum(tensor.differing for tensor in parity.tensors)
    return f"{differing:,} of {sum(tensor.elements for tensor in parity.tensors):,}"


if __name__ == "__main__":
    main()
