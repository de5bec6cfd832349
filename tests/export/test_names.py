import json

import onnx
import torch
from torch import nn

import fxquant


class Twins(nn.Module):
    """Two layers with equal biases, which the exporter stores once."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        for layer in (self.first, self.second):
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        return self.second(self.first(x).relu())


def test_equal_parameters_keep_their_own_names(tmp_path):
    files = fxquant.export(
        fxquant.quantize(Twins().eval(), [torch.randn(2, 4)], target="onnxruntime").model,
        tmp_path,
        encodings_version="2.0.0",  # earlier versions have no biases
    )
    stored = {tensor.name for tensor in onnx.load(files.onnx).graph.initializer}
    entries = [e for e in json.loads(files.encodings.read_text())["encodings"] if "." in e["name"]]
    assert {entry["name"] for entry in entries} == {
        f"{n}.{p}" for n in ("first", "second") for p in ("weight", "bias")
    }
    assert {entry["name"] for entry in entries} <= stored
    assert {f"{entry['name']}_scale" for entry in entries} <= stored
