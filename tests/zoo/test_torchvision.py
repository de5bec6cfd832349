"""Seven torchvision architectures through every verb, for both targets."""

import copy

import pytest
import torch

import fxquant
from tests import digits
from tests.zoo.torchvision_models import MODELS, build

FAST = ("resnet18",)


def check(name, target, folder):
    """Take a model through every verb, and hold the file against the simulation and the float weights."""
    model = build(name)
    state = copy.deepcopy(model.state_dict())
    batches = [torch.randn(2, 3, 64, 64) for _ in range(2)]
    prepared = fxquant.prepare(model, target=target)
    fxquant.calibrate(prepared, batches)
    quantized = fxquant.convert(prepared)
    files = fxquant.export(quantized, folder)
    report = fxquant.verify(quantized, files, batches)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert report.unmatched == ()
    assert report.max_steps <= 1
    assert files.onnx.stat().st_size <= 0.30 * sum(value.numel() * 4 for value in model.parameters())


@pytest.mark.parametrize("target", digits.TARGETS)
@pytest.mark.parametrize("name", FAST)
def test_small_architecture_goes_through_every_verb(name, target, tmp_path):
    check(name, target, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", digits.TARGETS)
@pytest.mark.parametrize("name", [name for name in MODELS if name not in FAST])
def test_architecture_goes_through_every_verb(name, target, tmp_path):
    check(name, target, tmp_path)
