"""What fxquant exports for a target breaks no rule of it, but for those that the model or the plan forces."""

import pytest
import torch

import fxquant
from fxquant.lint import Severity
from tests import digits, networks
from tests.zoo.architectures import build

FLOAT32 = {"P23"}  # an exported file is float32 around its integers
NARROW = {"P12", "P13"}  # layers of under 16 channels: fxquant quantizes all that has an integer kernel
UNQUANTIZED_RESIZE = {"P19"}

NETWORKS = {
    "encoder": FLOAT32 | NARROW,
    "fused_attention": FLOAT32 | NARROW,
    "unet": FLOAT32 | NARROW | UNQUANTIZED_RESIZE,
    "functional": FLOAT32 | NARROW,
    "reuse": FLOAT32 | NARROW,
    "two_inputs": FLOAT32 | NARROW,
    "grouped": FLOAT32 | NARROW,
}
ARCHITECTURES = {
    "timm/resnet18": set(),
    "timm/mobilenetv2_100": set(),
    "timm/vit_tiny_patch16_224": FLOAT32,
    "transformers/bert": FLOAT32 | {"P12"},  # heads of 8 numbers
}


def broken(report):
    return {finding.rule for finding in report.findings if finding.severity is not Severity.INFO}


def exported(model, example, folder):
    prepared = fxquant.prepare(model, example, target="tensorrt")
    fxquant.calibrate(prepared, [example])
    return fxquant.export(fxquant.convert(prepared), folder)


def test_digits_for_tensorrt():
    report = fxquant.lint(digits.files("tensorrt"))
    assert broken(report) == {"P12"}  # ten classes


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_network_for_tensorrt(name, tmp_path):
    model, batch = networks.cases()[name]
    assert broken(fxquant.lint(exported(model, batch, tmp_path))) <= NETWORKS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architecture_for_tensorrt(name, tmp_path):
    model, (args, kwargs) = build(name)
    if "vit" not in name:  # small images
        args = tuple(x[..., :64, :64] if x.dim() == 4 else x for x in args)
    with torch.no_grad():
        report = fxquant.lint(exported(model, kwargs or args, tmp_path))
    assert broken(report) == ARCHITECTURES[name]
