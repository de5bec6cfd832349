"""Every scheme of every target takes a small model all the way."""

import onnx
import pytest
import torch
from torch import nn

import fxquant
from fxquant.graph import Stage, get_record
from fxquant.targets import TARGETS, get_target

SCHEMES = [f"{target.name}:{scheme}" for target in TARGETS.values() for scheme in target.schemes]
X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
WEIGHTS = {4: (onnx.TensorProto.INT4,), 8: (onnx.TensorProto.INT8, onnx.TensorProto.FLOAT8E4M3FN)}


class Network(nn.Module):
    """A convolution, and a linear layer with 64 inputs, which every block size of 32 divides."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(128, 16)

    def forward(self, x):
        return self.fc(self.conv(x).relu()[:, :2].flatten(1))


@pytest.fixture(params=SCHEMES)
def scheme(request):
    return request.param


@pytest.fixture
def quantized(scheme):
    return fxquant.quantize(Network().eval(), [X], target=scheme).model


def test_a_scheme_is_exported_and_verified(scheme, quantized, tmp_path):
    files = fxquant.export(quantized, tmp_path)
    report = fxquant.verify(quantized, files, [X], runtime="onnxruntime-exact")
    assert (report.unmatched, report.max_steps <= 1) == ((), True)
    stored = {tensor.name: tensor for tensor in onnx.load(files.onnx).graph.initializer}
    assert stored["fc.weight"].data_type in WEIGHTS[get_target(scheme).weight.bitwidth]


def test_the_pipeline_of_a_scheme_is_a_config(scheme, quantized):
    text = get_record(quantized, Stage.QUANTIZED).pipeline
    again = fxquant.prepare(Network().eval(), X, target=scheme, config=text)
    record = get_record(again, Stage.PREPARED)
    assert (record.target, record.pipeline) == (scheme, text)


def test_a_model_of_a_scheme_is_saved_and_loaded(scheme, quantized, tmp_path):
    torch.save(quantized, tmp_path / "model.pt")  # plain pickle does not take torch's float8 tensors
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    assert torch.equal(again(X), quantized(X))
    assert get_record(again, Stage.QUANTIZED).target == scheme


def test_a_scheme_says_what_it_is_for(scheme):
    name, _, plain = scheme.partition(":")
    assert get_target(name).schemes[plain].why
    assert get_target(scheme).name == scheme
