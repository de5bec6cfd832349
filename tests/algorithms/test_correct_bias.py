import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import fxquant
from fxquant.algorithms import CorrectBias, Equalize, Gptq
from fxquant.calibration import CalibrationInterpreter
from fxquant.errors import BatchError, NotCalibratedError, OptionError
from tests.algorithms.statistics_models import images, noise, normed, prepared


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(F.relu(self.first(F.relu(self.first(x)))))


def mixed() -> nn.Module:
    """Every kind of layer, some of them without a bias."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 64, 5, bias=False),
    ).eval()


@pytest.mark.parametrize("per_channel", [True, False], ids=["per channel", "per tensor"])
def test_the_error_of_coarse_weights_is_lowered(per_channel: bool) -> None:
    model, data = normed(), list(images().split(16))
    gm = prepared(model, data, bits=4, per_channel=per_channel)
    before = noise(gm, model, images())
    report = CorrectBias()(gm, data)
    assert [site.layer for site in report.applied] == ["0", "3", "6"]
    assert all(site.after < site.before for site in report.applied)
    assert noise(gm, model, images()) < before / 2


def test_every_kind_of_layer_gets_the_mean_it_has_in_float() -> None:
    model, data = mixed(), list(images(32).split(8))
    gm = prepared(model, data, bits=4)
    twin = prepared(model, data, bits=4)
    report = CorrectBias()(gm, data)
    assert [site.layer for site in report.applied] == ["0", "2", "4", "7"]
    last = next(node for node in gm.graph.nodes if str(node.target) == "7")
    gm.graph.output_node().args = (last,)  # before the quantizer of the output
    gm.recompile()
    x = torch.cat(data)
    with torch.no_grad():
        moved = gm(x).mean(0) - model(x).mean(0)
        untouched = twin(x).mean(0) - model(x).mean(0)
    assert float(moved.abs().max()) < 1e-5  # a float32 bias
    assert float(untouched.abs().max()) > 1e-4


def test_a_layer_whose_weights_lie_on_their_grid_is_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1)).eval()
    with torch.no_grad():
        model[0].weight.sign_()
    data = [torch.randint(0, 256, (4, 3, 8, 8)) / 255.0]
    data[0][0, 0, 0, 0], data[0][0, 0, 0, 1] = 0.0, 1.0
    gm = prepared(model, data)
    bias = gm.get_submodule("0").bias.detach().clone()
    (site,) = CorrectBias()(gm, data).sites
    # the means of outputs below 4 that agree but for the last bits of float32
    torch.testing.assert_close(gm.get_submodule("0").bias, bias, rtol=0.0, atol=4e-7)
    assert site.before is not None
    assert site.before < 1e-10


def test_a_layer_that_is_called_twice_is_declined() -> None:
    data = [images(8)]
    gm = prepared(Shared().eval(), data, bits=4)
    report = CorrectBias()(gm, data)
    assert [site.layer for site in report.applied] == ["second"]
    (site,) = report.declined
    assert (site.layer, site.reason) == (
        "first",
        "it is called more than once, on inputs with means of their own",
    )


def test_the_float_model_changes_by_its_biases_alone() -> None:
    model, data = normed(), [images(16)]
    gm = prepared(model, data, bits=4)
    weights = {name: value.clone() for name, value in gm.named_parameters() if name.endswith(".weight")}
    CorrectBias()(gm, data)
    assert all(torch.equal(value, gm.get_parameter(name)) for name, value in weights.items())
    with torch.no_grad():
        assert not torch.equal(CalibrationInterpreter(gm).run_all(data[0]), model(data[0]))


def test_a_second_run_goes_by_the_same_float_model() -> None:
    data = list(images(32).split(8))
    gm = prepared(normed(), data, bits=4)
    CorrectBias()(gm, data)
    for again in (gm, pickle.loads(pickle.dumps(gm))):
        for site in CorrectBias()(again, data).sites:
            assert site.before is not None
            assert site.after is not None
            assert site.after >= 0.999 * site.before


def test_it_makes_up_for_weights_that_were_rounded_before() -> None:
    model, data = normed(), list(images(32).split(8))
    gm = prepared(model, data, bits=4)
    Gptq()(gm, data)
    fxquant.calibrate(gm, data, progress=False)
    rounded = fxquant.convert(gm)
    CorrectBias()(gm, data)
    fxquant.calibrate(gm, data, progress=False)
    x = torch.cat(data)
    with torch.no_grad():
        before, after = (
            float((m(x) - model(x)).mean(0).square().sum()) for m in (rounded, fxquant.convert(gm))
        )
    assert after < before / 4


def test_what_keeps_the_function_is_refused_behind_it_and_the_model_stays() -> None:
    data = list(images(32).split(8))
    gm = prepared(normed(), data, bits=4)
    CorrectBias()(gm, data)
    before = {name: value.clone() for name, value in gm.named_parameters()}
    with pytest.raises(OptionError, match="rounded or corrected before"):
        Equalize()(gm)
    assert all(torch.equal(value, before[name]) for name, value in gm.named_parameters())


def test_it_needs_data_and_ranges() -> None:
    gm = fxquant.prepare(normed(), images(2), target="generic")
    with pytest.raises(NotCalibratedError, match="correct-bias"):
        CorrectBias()(gm, [images(2)])
    fxquant.calibrate(gm, [images(2)], progress=False)
    with pytest.raises(BatchError, match="correct-bias"):
        CorrectBias()(gm)
