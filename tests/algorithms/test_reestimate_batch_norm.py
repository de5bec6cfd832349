import pytest
import torch
from torch import fx, nn

from fxquant.algorithms import CorrectBias, ReestimateBatchNorm
from tests.algorithms.statistics_models import images, noise, normed, prepared


def clipped(data: list[torch.Tensor], model: nn.Module) -> fx.GraphModule:
    """A model whose weights before norms are clipped to 0.6 of their ranges: outputs lose spread."""
    gm = prepared(model, data)
    for name in ("0", "3"):
        quantizer = gm.get_submodule(name).param_quantizers["weight"]
        quantizer.set_range(quantizer.min.detach() * 0.6, quantizer.max.detach() * 0.6)
    return gm


def codes(gm: fx.GraphModule, name: str) -> torch.Tensor:
    layer = gm.get_submodule(name)
    encoding = layer.param_quantizers["weight"].get_encodings()
    return encoding.to_codes(layer.weight.detach())


def test_lost_spread_is_given_back_where_a_bias_could_not() -> None:
    model, data = normed(), list(images().split(16))
    by_bias, by_norm = clipped(data, model), clipped(data, model)
    before = noise(by_norm, model, images())
    CorrectBias()(by_bias, data)
    report = ReestimateBatchNorm()(by_norm, data)
    assert [site.layer for site in report.applied] == ["0", "3"]
    assert all(site.after < site.before for site in report.applied)
    assert noise(by_norm, model, images()) < noise(by_bias, model, images()) < before


def test_the_codes_of_weights_stay() -> None:
    model, data = normed(), [images(32)]
    gm = clipped(data, model)
    before = {name: codes(gm, name) for name in ("0", "3")}
    scales = {name: gm.get_submodule(name).param_quantizers["weight"].get_scale() for name in before}
    assert len(ReestimateBatchNorm()(gm, data).applied) == 2
    for name, old in before.items():
        # the factor and the scale are rounded: a weight half way between two codes may take the other
        assert float((codes(gm, name) != old).float().mean()) < 0.01
        assert not torch.equal(scales[name], gm.get_submodule(name).param_quantizers["weight"].get_scale())


@pytest.mark.parametrize(
    ("per_channel", "layer", "reason"),
    [
        (True, "6", "no batch norm was folded into it"),
        (False, "0", "its weight has no range for each output channel: a factor would round it anew"),
    ],
    ids=["no norm", "per tensor"],
)
def test_what_cannot_be_changed_exactly_is_declined(per_channel: bool, layer: str, reason: str) -> None:
    data = [images(16)]
    gm = prepared(normed(), data, bits=4, per_channel=per_channel)
    report = ReestimateBatchNorm()(gm, data)
    assert reason in [site.reason for site in report.declined if site.layer == layer]


def test_a_fixed_range_is_left_alone() -> None:
    data = [images(16)]
    gm = prepared(normed(), data, bits=4)
    gm.get_submodule("0").param_quantizers["weight"].allow_overwrite(False)
    report = ReestimateBatchNorm()(gm, data)
    assert "the range of its weight is fixed" in [site.reason for site in report.declined]
