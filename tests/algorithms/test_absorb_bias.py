from collections.abc import Callable

import pytest
import torch
from torch import nn

import fxquant
from fxquant.algorithms import AbsorbBias
from fxquant.calibration import CalibrationInterpreter
from fxquant.errors import OptionError
from tests.algorithms.statistics_models import images, noise, prepared, settled


def high(reader: nn.Module, activation: nn.Module | None = None, shift: float = 40.0) -> nn.Sequential:
    """A model with a channel that lies far above zero."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), activation or nn.ReLU(), reader)
    model = settled(model)
    with torch.no_grad():
        model[1].bias[2] = shift
    return model


def test_a_high_bias_moves_and_the_noise_falls() -> None:
    model, data = high(nn.Conv2d(8, 4, 1)), list(images().split(16))
    gm = prepared(model, data)
    before = noise(gm, model, data[0])
    (first, _) = AbsorbBias(deviations=6.0)(gm).sites  # below which none of these values lies
    assert first.applied
    assert first.after < first.before / 4
    with torch.no_grad():
        found, wanted = CalibrationInterpreter(gm).run_all(data[0]), model(data[0])
    # float32 sums of values around 40
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-5
    fxquant.calibrate(gm, data, progress=False)
    assert noise(gm, model, data[0]) < before / 1.5


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: high(nn.Conv2d(8, 4, 1), shift=0.0), "no channel lies that far above zero"),
        (lambda: high(nn.Conv2d(8, 4, 3, padding=1)), "'3' pads with zeros, which hold nothing of the bias"),
        (lambda: high(nn.Conv2d(8, 4, 1), nn.Sigmoid()), "'sigmoid' reads its output"),
        (
            lambda: nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)),
            "no batch norm was folded into it",
        ),
    ],
    ids=["no high bias", "padding", "sigmoid", "no norm"],
)
def test_what_cannot_absorb_is_left_alone(model: Callable[[], nn.Module], reason: str) -> None:
    built = model().eval()
    if isinstance(built[1], nn.BatchNorm2d) and float(built[1].bias.detach().max()) < 40.0:
        nn.init.zeros_(built[1].bias)
    gm = fxquant.prepare(built, images(2), target="generic")
    before = {name: value.clone() for name, value in gm.named_parameters()}
    report = AbsorbBias()(gm)
    assert report.applied == []
    assert reason in [site.reason for site in report.declined]
    assert all(torch.equal(value, before[name]) for name, value in gm.named_parameters())


def test_deviations_are_not_negative() -> None:
    with pytest.raises(OptionError, match="deviations"):
        AbsorbBias(deviations=-1.0)
