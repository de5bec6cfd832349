"""Encodings files of fxquant and of aimet-torch 2.42, each written by one and read by the other.

    pip install aimet-torch==2.42.0        # in a scratch environment that also has fxquant
    python -m tests.peers.aimet_encodings

It simulates a small model in both, with weights per channel, in blocks and with LPBQ, and compares bit for
bit the files by tensor in each version: their sections, what the quantizers are by default, and the entries
of the tensors that both name alike; then what fxquant reads of the files that AIMET writes. What AIMET reads
of the encodings by module that fxquant writes may differ in the last two bits: AIMET takes their min and max.
"""

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxquant import quantsim
from fxquant.export import VERSIONS, encodings_json, load_into
from fxquant.quantsim import config_utils
from fxquant.quantsim.sim_export import prepared_graph
from tests.zoo.torchvision_models import import_torchvision

X = torch.linspace(-2.0, 3.0, 2 * 8 * 6 * 6).reshape(2, 8, 6, 6)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.up = nn.Conv2d(8, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 8, 1)
        self.flatten, self.fc = nn.Flatten(), nn.Linear(128, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.fc(self.flatten(self.up(self.relu(self.conv(x)))))
        return y


def simulate(package: Any, utilities: Any, kind: str) -> Any:
    """Return a calibrated simulation of either package."""
    torch.manual_seed(0)
    sim = package.QuantizationSimModel(Net().eval(), X)
    layers = [nn.Conv2d, nn.Linear]
    if kind == "blocks":
        utilities.set_blockwise_quantization_for_weights(sim, layers, 4, True, 4)
    if kind == "groups":
        utilities.set_grouped_blockwise_quantization_for_weights(sim, layers, 4, True, 8, 4)
    sim.compute_encodings(lambda model: model(X))
    return sim


def entries_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a document by tensor, parameters first."""
    found: dict[str, Any] = {}
    for section in ("param_encodings", "activation_encodings", "encodings"):
        held = document.get(section, {})
        found |= held if isinstance(held, dict) else {entry["name"]: entry for entry in held}
    return found


def scales_of(sim: Any) -> dict[str, list[float]]:
    """Return the scales of a simulation's quantizers by path; those of outputs and inputs only where set."""
    return {
        name: module.get_scale().flatten().tolist()
        for name, module in sim.model.named_modules()
        if hasattr(module, "get_scale") and module.is_initialized()
    }


def compare_files(ours: Any, theirs: Any, folder: Path) -> list[str]:
    """Return how files by tensor differ, and what fxquant reads from theirs."""
    differences = []
    for version in VERSIONS:
        path = folder / version / "model.onnx"
        path.parent.mkdir()
        options = {"dynamo": False, "opset_version": 21, "input_names": ["x"], "encoding_version": version}
        theirs.onnx.export((X,), str(path), **options)
        other = json.loads(path.with_suffix(".encodings").read_text(encoding="utf-8"))
        gm = prepared_graph(ours)
        own = json.loads(json.dumps(encodings_json(gm, version, ours.quant_args, int32_biases=True)))
        if list(own) != list(other):
            differences.append(f"{version}: sections {list(own)}, theirs {list(other)}")
        names = [name for name in entries_of(own) if name == "x" or name.endswith(".weight")]
        names += [name for name in entries_of(own) if name.endswith(".bias")]
        assert len(names) == (7 if version >= "2" else 4), names
        for name in names:
            mine, its = entries_of(own)[name], entries_of(other).get(name)
            if mine != its:
                differences.append(f"{version}: '{name}' is {str(mine)[:300]}, theirs {str(its)[:300]}")
        if own.get("quantizer_args") != other.get("quantizer_args"):
            differences.append(
                f"{version}: {own.get('quantizer_args')}, theirs {other.get('quantizer_args')}"
            )
        fresh = prepared_graph(ours)
        for quantizer in (m for m in fresh.modules() if hasattr(m, "set_range")):
            quantizer.set_range(quantizer.get_min() * 0.5, quantizer.get_max() * 0.5)
        load_into(fresh, path.with_suffix(".encodings"), strict=False, partial=True)
        read = entries_of(json.loads(json.dumps(encodings_json(fresh, version, int32_biases=True))))
        differences += [
            f"{version}: '{n}' is not read as it was written"
            for n in names[:4]  # biases follow from activations, whose names differ
            if read[n] != entries_of(other)[n]
        ]
    return differences


def compare_loading(ours: Any, theirs: Any, utilities: Any, kind: str, folder: Path) -> list[str]:
    """Return where the scales that AIMET reads from fxquant's encodings by module differ from fxquant's."""
    for quantizer in theirs.quantizers():
        quantizer.set_range(torch.full_like(quantizer.min, -7.0), torch.full_like(quantizer.max, 7.0))
    ours.save_encodings_to_json(folder, "by_module")
    theirs.load_encodings(str(folder / "by_module.json"))
    own, other = scales_of(ours), scales_of(theirs)
    differences = (
        [f"quantizers {own.keys() ^ other.keys()} are of one alone"] if own.keys() != other.keys() else []
    )
    for name in own.keys() & other.keys():
        # min and max of the file round once more on the way to a scale
        far = [a for a, b in zip(own[name], other[name], strict=True) if abs(a - b) > 2.0**-22 * a]
        differences += [f"'{name}': {len(far)} scales differ"] if far else []
    return differences


def main() -> None:
    """Compare each kind of weight and print what differs."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    import_torchvision()
    import aimet_torch.quantsim as aimet  # installed by hand, see above
    from aimet_torch.quantsim import config_utils as aimet_utilities

    failed = False
    for kind in ("channels", "blocks", "groups"):
        ours, theirs = simulate(quantsim, config_utils, kind), simulate(aimet, aimet_utilities, kind)
        with tempfile.TemporaryDirectory() as folder:
            differences = compare_files(ours, theirs, Path(folder))
            differences += compare_loading(ours, theirs, aimet_utilities, kind, Path(folder))
        failed |= bool(differences)
        print(f"{kind}: {len(differences)} differences", *differences, sep="\n  ")
    sys.exit(failed)


if __name__ == "__main__":
    main()
