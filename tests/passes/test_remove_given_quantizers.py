import copy

import pytest
import torch
from torch import fx

import fxquant
from fxquant.graph import Example, Report, capture, graph_text
from fxquant.graph.annotations import GIVEN
from fxquant.passes import RemoveGivenQuantizers
from fxquant.quantization.given import given_for
from tests.passes.given_models import OwnConv, OwnModel, OwnQuantizer


@pytest.fixture(params=[None, Example(args=(torch.ones(2, 3, 4, 4),))], ids=["traced", "recorded"])
def example(request: pytest.FixtureRequest) -> Example | None:
    torch.manual_seed(0)
    return request.param  # type: ignore[no-any-return]  # of a fixture


def removed(model: torch.nn.Module, example: Example | None) -> tuple[fx.GraphModule, Report]:
    gm, report = capture(model, example), Report()
    RemoveGivenQuantizers()(gm, report)
    return gm, report


def test_no_quantizer_of_the_model_is_left(example: Example | None) -> None:
    gm, _ = removed(OwnModel(OwnQuantizer(1.5)), example)
    assert "OwnQuantizer" not in graph_text(gm)


def test_graph_computes_what_the_model_computes_without_its_quantizers(example: Example | None) -> None:
    model = OwnModel(OwnQuantizer(1.5))
    gm, _ = removed(model, example)
    for module in model.modules():
        if isinstance(module, OwnQuantizer):
            module.is_on = False
    x = torch.randn(5, 3, 4, 4)
    torch.testing.assert_close(gm(x), model(x), atol=0.0, rtol=0.0)


def test_tensors_carry_what_was_given_for_them(example: Example | None) -> None:
    gm, _ = removed(OwnModel(OwnQuantizer(1.5)), example)
    noted = {node.name: node.meta[GIVEN] for node in gm.graph.nodes if GIVEN in node.meta}
    assert {name: (given.path, given.amax.item()) for name, given in noted.items()} == {
        "x": ("conv", 2.5),
        "relu": ("shortcut", 1.5),
        "mean": ("fc.own_input", 3.0),
    }


def test_weights_carry_what_was_given_for_them(example: Example | None) -> None:
    model = OwnModel(OwnQuantizer(1.5))
    gm, _ = removed(model, example)
    conv = given_for(gm.get_parameter("conv.weight"))
    linear = given_for(gm.get_parameter("fc.weight"))
    assert conv is not None
    assert linear is not None
    assert linear.amax == 0.25
    torch.testing.assert_close(conv.amax, model.conv.own_weight.amax, atol=0.0, rtol=0.0)


def test_model_is_left_as_it_was(example: Example | None) -> None:
    model = OwnModel(OwnQuantizer(1.5))
    before = copy.deepcopy(model)
    removed(model, example)
    assert type(model.conv) is OwnConv
    assert repr(model) == repr(before)
    assert given_for(model.conv.weight) is None


def test_what_scales_the_tensor_first_goes_on_scaling_it(example: Example | None) -> None:
    factor = torch.linspace(0.5, 2.0, 8).reshape(8, 1, 1)
    model = OwnModel(OwnQuantizer(1.5, factor=factor))
    gm, _ = removed(model, example)
    model.shortcut.is_on = model.conv.own_input.is_on = model.conv.own_weight.is_on = False
    model.fc.own_input.is_on = model.fc.own_weight.is_on = False
    x = torch.randn(5, 3, 4, 4)
    torch.testing.assert_close(gm(x), model(x), atol=0.0, rtol=0.0)
    assert any(node.meta.get(GIVEN) is not None and node.target is torch.mul for node in gm.graph.nodes)


def test_quantizer_that_cannot_be_replaced_stays_and_says_why(example: Example | None) -> None:
    gm, report = removed(OwnModel(OwnQuantizer(1.5, refusal="it returns codes")), example)
    assert graph_text(gm).count("OwnQuantizer") == 1
    (site,) = report.declined("remove-given-quantizers")
    assert (site.layer, site.reason) == ("shortcut", "it returns codes")


def test_layer_whose_quantizer_cannot_be_replaced_is_followed(example: Example | None) -> None:
    model = OwnModel(OwnQuantizer(1.5), given=OwnQuantizer(2.5, refusal="it returns codes"))
    gm, report = removed(model, example)
    assert [site.layer for site in report.declined("remove-given-quantizers")] == ["conv.own_input"]
    assert "conv2d" in graph_text(gm)


@pytest.mark.parametrize("target", ["onnxruntime", "qualcomm", "tensorrt"])
@pytest.mark.parametrize("part", ["input", "weight"])
def test_layer_with_a_quantizer_switched_off_stays_float(target: str, part: str) -> None:
    off = OwnQuantizer(2.5, is_on=False)
    model = OwnModel(OwnQuantizer(1.5), **{"given" if part == "input" else "weight": off})
    prepared = fxquant.prepare(model, torch.ones(2, 3, 4, 4), target=target)
    site = fxquant.report(prepared).floats["conv"]
    assert site.reason == f"the model's own quantizer of its {part} is disabled"
    assert type(prepared.conv) is torch.nn.Conv2d
