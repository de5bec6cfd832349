import pytest
import torch
from torch import fx

import fxquant
from fxquant.graph import Site
from fxquant.passes import Pipeline, prepare_pipeline
from fxquant.targets import get_target
from tests.passes.given_models import OwnModel, OwnQuantizer

TARGETS = ["onnxruntime", "openvino", "qualcomm", "tensorrt"]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def prepared(model: torch.nn.Module, target: str) -> fx.GraphModule:
    """Prepare a model for a target, small layers too."""
    steps = prepare_pipeline(get_target(target)).passes
    config = Pipeline(tuple(step for step in steps if step.name != "assign-small-layers"))
    return fxquant.prepare(model, torch.ones(2, 3, 4, 4), target=target, config=config)


def sites(gm: fx.GraphModule) -> list[Site]:
    return [site for site in fxquant.report(gm).sites if site.rewrite == "assign-given-ranges"]


@pytest.mark.parametrize("target", TARGETS)
def test_activation_lies_on_the_very_steps_of_the_models_own_quantizer(target: str) -> None:
    gm = prepared(OwnModel(OwnQuantizer(1.5)), target)
    assert gm.quantizers.x.get_scale().item() == torch.tensor(2.5).div(127).item()
    assert gm.quantizers.x.get_min().item() == pytest.approx(-128 / 127 * 2.5)


@pytest.mark.parametrize("target", TARGETS)
def test_weight_keeps_its_codes_through_a_folded_batch_norm(target: str) -> None:
    model = OwnModel(OwnQuantizer(1.5))
    gm = prepared(model, target)
    quantizer = gm.conv.param_quantizers["weight"]
    own = model.conv.own_weight(model.conv.weight) / (model.conv.own_weight.amax / 127)
    if quantizer.shape == (8, 1, 1, 1):
        codes = quantizer.get_encodings().quantize(gm.conv.weight) + quantizer.get_offset()
        sign = model.norm.weight.sign().reshape(8, 1, 1, 1)
        lowest = max(-127, quantizer.qmin)
        torch.testing.assert_close(codes * sign, own.round().clamp(lowest, 127), atol=0.0, rtol=0.0)
    else:
        widest = (model.conv.own_weight.amax * _factor(model)).amax()
        torch.testing.assert_close(quantizer.get_scale(), widest / 127)


def _factor(model: OwnModel) -> torch.Tensor:
    assert model.norm.running_var is not None
    factor = model.norm.weight * torch.rsqrt(model.norm.running_var + model.norm.eps)
    return factor.detach().abs().reshape(8, 1, 1, 1)


@pytest.mark.parametrize("target", TARGETS)
def test_calibrate_leaves_what_was_given_and_finds_the_rest(target: str) -> None:
    gm = prepared(OwnModel(OwnQuantizer(1.5)), target)
    kept = gm.quantizers.x.get_scale().clone(), gm.fc.param_quantizers["weight"].get_scale().clone()
    fxquant.calibrate(gm, [torch.randn(4, 3, 4, 4) * 100])
    found = gm.quantizers.x.get_scale(), gm.fc.param_quantizers["weight"].get_scale()
    torch.testing.assert_close(found, kept, atol=0.0, rtol=0.0)
    fxquant.convert(gm)


def test_range_of_other_bits_is_kept_on_the_targets_steps() -> None:
    gm = prepared(OwnModel(OwnQuantizer(1.5), given=OwnQuantizer(2.5, bits=4)), "onnxruntime")
    assert gm.quantizers.x.get_scale().item() == torch.tensor(2.5).div(127).item()
    (site,) = [site for site in sites(gm) if site.node == "x"]
    assert site.reason == "its range is kept; its steps, of 4 bits, are not the target's"


@pytest.mark.parametrize(("target", "steps"), [("qualcomm", 255), ("tensorrt", 127)])
def test_range_from_zero_is_kept_where_the_grid_can_begin_at_zero(target: str, steps: int) -> None:
    gm = prepared(OwnModel(OwnQuantizer(1.5), given=OwnQuantizer(2.5, signed=False)), target)
    assert gm.quantizers.x.get_scale().item() == torch.tensor(2.5).div(steps).item()


def test_quantizer_without_a_range_is_left_to_calibrate() -> None:
    gm = prepared(OwnModel(OwnQuantizer(1.5), given=OwnQuantizer(None)), "onnxruntime")
    assert not gm.quantizers.x.has_range()
    (site,) = [site for site in sites(gm) if site.node == "x"]
    assert not site.applied
    assert site.reason == "the model's own quantizer had no range: calibrate finds one"


def test_tensor_with_two_ranges_gets_the_wider() -> None:
    class TwoReaders(OwnModel):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return torch.sigmoid(y) + self.shortcut(y) + self.conv.own_input(y)

    gm = prepared(TwoReaders(OwnQuantizer(1.5)), "qualcomm")
    assert gm.quantizers.conv.get_scale().item() == torch.tensor(2.5).div(127).item()


def test_report_says_what_was_kept_and_what_was_not() -> None:
    text = str(fxquant.report(prepared(OwnModel(OwnQuantizer(1.5)), "tensorrt")))
    assert [line for line in text.splitlines() if line.startswith("the model's own")] == [
        "the model's own quantizers, 4 x its range is kept",
        "the model's own quantizers, 1 x not kept, the target runs it in float",
    ]


def test_nothing_happens_to_a_float_model() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
    gm = fxquant.prepare(model, torch.ones(2, 3, 4, 4))
    assert sites(gm) == []
    assert "the model's own" not in str(fxquant.report(gm))
