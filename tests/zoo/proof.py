"""Run architectures in three runtimes and write docs/parity.md: python -m tests.zoo.proof [name ...].

What is done is kept in .zoo, so that a run that was stopped goes on; --anew forgets it.
"""

import argparse
import contextlib
import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fxquant
from fxquant.errors import FxQuantError
from fxquant.runtimes import OnnxRuntime
from tests.zoo.architectures import build
from tests.zoo.torchvision_models import import_torchvision

KEPT = Path(__file__).parents[2] / ".zoo"
PAGE = Path(__file__).parents[2] / "docs" / "parity.md"
NAMES = (
    *("timm/resnet18", "timm/mobilenetv2_100", "timm/mobilenetv3_small_100", "timm/efficientnet_b0"),
    *("timm/densenet121", "timm/regnetx_002", "timm/ghostnet_100", "timm/mnasnet_small"),
    *("timm/repvgg_a0", "timm/seresnet18", "timm/convnext_atto", "timm/hgnetv2_b0"),
    *("timm/vit_tiny_patch16_224", "timm/mobilevit_xxs", "timm/poolformer_s12"),
    *("transformers/bert", "transformers/distilbert", "transformers/gpt2", "transformers/llama"),
    "transformers/vit",
)
_PIXELS, _INPUTS, _BATCH, _SECONDS = 64, 64, 8, 900

_HEAD = """# Parity

Written by `make parity`: simulation against runtime for 20 architectures with seeded random weights (images of
64 x 64 pixels; the transformers' are tiny ones).

**ONNX Runtime** (target `onnxruntime`, 64 inputs): *size*: the file against the float parameters. *steps*:
largest difference of an op that is fed the runtime's own inputs; *codes*: share of codes that differ so.
*top-1*: rows of the first output with the same largest entry, of those whose margin is above one step (a 255th
of the range of that row), for the float simulation and for `arithmetic="integer"`.

**HTP** (Qualcomm's simulator, SM8650 = V75, target `qualcomm`, one input; `a16` is `qualcomm:w8a16`): *CPU*:
nodes that HTP did not take; *float*: quantized ops that it ran in float16; *steps*, *codes* as above, for the
float simulation; *htp*: share of codes with `arithmetic="htp"`.

**OpenVINO** (target `openvino`, 8 inputs): *steps*, *codes*, and *float*: ops it ran in float.

"""


@dataclass(kw_only=True)
class Proof:
    """What was measured of one architecture; a runtime that refused it has only a failure."""

    name: str
    size: float = 0.0
    onnxruntime: dict[str, Any] = field(default_factory=dict)
    integer: dict[str, Any] = field(default_factory=dict)
    htp: dict[str, Any] = field(default_factory=dict)
    htp_arithmetic: dict[str, Any] = field(default_factory=dict)
    htp_a16: dict[str, Any] = field(default_factory=dict)
    openvino: dict[str, Any] = field(default_factory=dict)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--anew", action="store_true", help="forget what is kept in .zoo")
    parser.add_argument("--one", action="store_true", help="run in this process and print JSON")
    options = parser.parse_args(arguments)
    if options.one:
        torch.set_num_threads(1)
        for name in options.names:
            print(json.dumps(dataclasses.asdict(prove(name))))
        return
    KEPT.mkdir(exist_ok=True)
    for name in options.names:
        _kept(name).unlink(missing_ok=True) if options.anew else None
        if not _kept(name).exists():
            _run(name)
    done = [json.loads(_kept(name).read_text()) for name in NAMES if _kept(name).exists()]
    PAGE.write_text(page([Proof(**one) for one in done]))


def prove(name: str) -> Proof:
    """Measure one architecture in every runtime."""
    proof = Proof(name=name)
    with torch.no_grad():
        model, calls = small(name)
        parameters = sum(tensor.nbytes for tensor in model.state_dict().values())
        with _quantized(model, calls[:2], "onnxruntime") as (simulations, files):
            proof.size = files.onnx.stat().st_size / parameters
            for arithmetic in ("float", "integer"):
                found = _verified(simulations[arithmetic], files, calls, "onnxruntime")
                found |= _top1(simulations[arithmetic], files, calls)
                setattr(proof, "onnxruntime" if arithmetic == "float" else "integer", found)
        single = [_first(call) for call in calls[:2]]
        for target, room in (("qualcomm", "htp"), ("qualcomm:w8a16", "htp_a16")):
            with _quantized(model, single, target) as (simulations, files):
                setattr(proof, room, _verified(simulations["float"], files, single[:1], "htp"))
                if room == "htp":
                    proof.htp_arithmetic = _verified(simulations["htp"], files, single[:1], "htp")
        with _quantized(model, calls[:2], "openvino") as (simulations, files):
            proof.openvino = _verified(simulations["float"], files, calls[:1], "openvino")
    return proof


def small(name: str) -> tuple[nn.Module, list[Any]]:
    """Return an architecture and its inputs: images of 64 pixels, or what the zoo gives a transformer."""
    generator = torch.Generator().manual_seed(1)
    if name.startswith("timm/"):
        import_torchvision()
        import timm

        plain = name.removeprefix("timm/")
        sized = plain.startswith("vit_")
        torch.manual_seed(0)
        model = timm.create_model(plain, **({"img_size": _PIXELS} if sized else {})).eval()
        shape = (_BATCH, 3, _PIXELS, _PIXELS)
        return model, [torch.randn(shape, generator=generator) for _ in range(_INPUTS // _BATCH)]
    model, (args, kwargs) = build(name)
    calls = []
    for _ in range(_INPUTS // _BATCH):
        pick = torch.randint(0, 2, (_BATCH,), generator=generator)

        def grown(value: Any, pick: torch.Tensor = pick) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            rows = value[pick % len(value)]
            if value.is_floating_point():
                return rows + torch.randn(rows.shape, generator=generator) * 0.5
            return rows if value.dtype is torch.bool or value.max() <= 1 else rows.roll(int(pick.sum()), -1)

        named = dict(zip(_parameters(model), args, strict=False)) | kwargs
        calls.append({key: grown(value) for key, value in named.items()})
    return model, calls


def page(proofs: list[Proof]) -> str:
    """Return docs/parity.md."""
    lines = [
        "| | size | steps | codes | top-1 float | top-1 integer | codes integer "
        "| HTP CPU | float | steps | codes | htp | a16 CPU | float | steps | codes "
        "| OpenVINO steps | codes | float |",
        "|---|" + "---|" * 18,
    ]
    notes = []
    for proof in proofs:
        cells = [f"{proof.size:.3f}"]
        cells += [_cell(proof.onnxruntime, key) for key in ("steps", "codes", "top1")]
        cells += [_cell(proof.integer, key) for key in ("top1", "codes")]
        cells += [_cell(proof.htp, key) for key in ("cpu", "float", "steps", "codes")]
        cells += [_cell(proof.htp_arithmetic, "codes")]
        cells += [_cell(proof.htp_a16, key) for key in ("cpu", "float", "steps", "codes")]
        cells += [_cell(proof.openvino, key) for key in ("steps", "codes", "float")]
        lines.append(f"| {proof.name} | " + " | ".join(cells) + " |")
        for runtime in ("onnxruntime", "integer", "htp", "htp_arithmetic", "htp_a16", "openvino"):
            notes += [
                f"- {proof.name}, {runtime}: {note}" for note in getattr(proof, runtime).get("notes", ())
            ]
    return (
        _HEAD
        + "\n".join([*lines, "", "## What a runtime left out, ran in float or did otherwise", "", *notes])
        + "\n"
    )


def _run(name: str) -> None:
    command = [sys.executable, "-m", "tests.zoo.proof", "--one", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
        last = done.stdout.strip().splitlines()[-1:]
        if last and last[0].startswith("{"):
            _kept(name).write_text(last[0])
            print(name, "done")
        else:
            print(name, "failed:", done.stderr.strip().splitlines()[-1:])
    except subprocess.TimeoutExpired:
        print(name, f"took more than {_SECONDS} s")


def _kept(name: str) -> Path:
    return KEPT / f"parity.{name.replace('/', '.')}.json"


@contextlib.contextmanager
def _quantized(model: nn.Module, calls: list[Any], target: str) -> Iterator[tuple[dict[str, Any], Any]]:
    """Give the simulations of a model for a target, by arithmetic, and its files, while a folder exists."""
    prepared = fxquant.prepare(model, calls[0], target=target)
    fxquant.calibrate(prepared, calls)
    simulations = {name: fxquant.convert(prepared, name) for name in ("float", "integer", "htp")}
    with tempfile.TemporaryDirectory() as folder:
        yield simulations, fxquant.export(simulations["float"], folder)


def _verified(simulation: Any, files: Any, calls: list[Any], runtime: str) -> dict[str, Any]:
    """Return what verify found, or why the runtime refused the file."""
    try:
        found = fxquant.verify(simulation, files, calls, runtime=runtime)
    except FxQuantError as error:
        return {"notes": [re.sub(r"/\S*/", "", str(error).splitlines()[0])[:200]]}
    elements = sum(tensor.elements for tensor in found.tensors)
    departed = found.first_departure
    notes = [f"not taken: {one}"[:160] for one in _few(found.fallbacks)]
    notes += [f"float: {one}"[:160] for one in _few(found.float_islands)]
    notes += [f"first departure: {departed}"[:160]] if departed else []
    return {
        "steps": found.max_steps,
        "codes": sum(tensor.differing for tensor in found.tensors) / max(elements, 1),
        "drift": found.max_drift,
        "cpu": len(found.fallbacks),
        "float": len(found.float_islands),
        "notes": notes,
    }


def _top1(simulation: Any, files: Any, calls: list[Any]) -> dict[str, Any]:
    """Count rows of the first output whose largest entry is at the same place, and those that are no ties."""
    session, same, rows = OnnxRuntime(files.onnx), 0, 0
    for call in calls:
        given = call if isinstance(call, dict) else {session.inputs[0]: call}
        feeds = {name: tensor.numpy() for name, tensor in given.items() if name in session.inputs}
        ran = torch.from_numpy(session.run(feeds)[session.outputs[0]])
        result: Any = simulation(**call) if isinstance(call, dict) else simulation(call)
        result = result if isinstance(result, torch.Tensor) else next(_tensors(result))
        simulated = result.reshape(-1, result.shape[-1])
        top = simulated.topk(2, dim=-1).values
        step = (simulated.amax(-1) - simulated.amin(-1)) / 255
        is_clear = top[:, 0] - top[:, 1] > step
        agrees = simulated.argmax(-1) == ran.reshape(simulated.shape).argmax(-1)
        same, rows = same + int((agrees & is_clear).sum()), rows + int(is_clear.sum())
    return {"top1": f"{same}/{rows}"}


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, torch.Tensor):
            yield part


def _first(call: Any) -> Any:
    if isinstance(call, torch.Tensor):
        return call[:1]
    return {name: value[:1] if isinstance(value, torch.Tensor) else value for name, value in call.items()}


def _few(values: Sequence[object]) -> list[str]:
    texts = [str(value) for value in values[:4]]
    return texts + ([f"... and {len(values) - 4} more"] if len(values) > 4 else [])


def _cell(found: dict[str, Any], key: str) -> str:
    value = found.get(key, "-")
    return f"{value:.1e}" if isinstance(value, float) and value else str(int(value) if value == 0 else value)


def _parameters(model: nn.Module) -> list[str]:
    return list(inspect.signature(model.forward).parameters)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main(sys.argv[1:])
