"""Masks: tensors in which -inf, or the lowest number, stands where nothing may be seen."""

import math

import pytest
import torch
from torch import nn

import fxquant
from fxquant.calibration.masks import shown
from fxquant.quantization.affine import QuantizeDequantize

HIDDEN = torch.tensor([[False, False, True, False, True, True]])
LOWEST = torch.finfo(torch.float32).min


class Filled(nn.Module):
    """Scores that are replaced where they are hidden."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.scores, self.value = nn.Linear(8, 6), value

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.scores(x).masked_fill(hidden, self.value), -1)


class Added(Filled):
    """Scores to which a mask of 0 and the lowest number is added."""

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros_like(hidden, dtype=torch.float32).masked_fill(hidden, self.value)
        return torch.softmax(self.scores(x) + mask[:, None], -1)


class Chosen(Filled):
    """Scores, or the lowest number where they are hidden."""

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        return torch.softmax(torch.where(hidden, self.value, self.scores(x)), -1)


class LookedAt(Filled):
    """Something asks whether a score is hidden."""

    def forward(self, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        scores = self.scores(x).masked_fill(hidden, self.value)
        return torch.softmax(scores, -1) * torch.isfinite(scores)


def calibrated(model, target="qualcomm"):
    torch.manual_seed(0)
    batch = torch.randn(1, 4, 8), HIDDEN
    prepared = fxquant.prepare(model.eval(), batch, target=target)
    fxquant.calibrate(prepared, [batch])
    return prepared, batch


MODELS = pytest.mark.parametrize(
    "model",
    [Filled(-math.inf), Filled(LOWEST), Added(LOWEST), Chosen(-math.inf)],
    ids=["filled_infinity", "filled_lowest", "added_lowest", "chosen_infinity"],
)


@MODELS
@pytest.mark.parametrize("scheme", ["w8a8", "w8a16"])
def test_softmax_gives_nothing_to_what_a_mask_hides_and_the_rest_to_what_it_shows(model, scheme):
    prepared, batch = calibrated(model, f"qualcomm:{scheme}")
    given, wanted = fxquant.convert(prepared)(*batch), model(*batch)
    assert not given[HIDDEN.expand_as(given)].any()
    # a score of 4 is off by half a step of its grid of 12, 0.024, and by that of its int8 weights, 0.003
    torch.testing.assert_close(given, wanted, atol=0.03 if scheme == "w8a8" else 0.003, rtol=0)


@MODELS
def test_all_around_a_masked_softmax_is_quantized(model):
    prepared, _ = calibrated(model)
    assert fxquant.report(prepared).declined("calibrate") == []
    softmax = next(node for node in prepared.graph.nodes if node.target is torch.softmax)
    before = prepared.get_submodule(str(softmax.args[0].target))
    assert isinstance(before, QuantizeDequantize)


def test_range_ends_a_margin_below_the_lowest_score_that_is_shown():
    model = Filled(-math.inf)
    prepared, (x, _) = calibrated(model)
    with torch.no_grad():
        low = float(model.scores(x)[..., ~HIDDEN[0]].min())
    found = float(prepared.get_submodule("quantizers.masked_fill").get_min())
    step = float(prepared.get_submodule("quantizers.masked_fill").get_scale())
    assert found == pytest.approx(low - math.log(2 * 255), abs=step)  # zero is moved onto the grid


def test_scores_stay_float_where_something_looks_for_hidden_ones():
    prepared, batch = calibrated(LookedAt(-math.inf))
    assert [site.reason for site in fxquant.report(prepared).declined("calibrate")][:1] == [
        "it holds a mask's lowest values, so it has no range to quantize"
    ]
    assert not fxquant.convert(prepared)(*batch)[HIDDEN.expand(1, 4, 6)].any()


def test_scores_stay_float_for_a_target_that_does_not_bound_masks():
    prepared, _ = calibrated(Filled(-math.inf), "onnxruntime")
    assert not any("masked_fill" in name for name, _ in prepared.get_submodule("quantizers").named_children())


def test_a_tensor_without_a_mask_is_shown_as_it_is():
    value = torch.tensor([-1e29, 0.0, math.nan])
    assert shown(value) is value
    assert shown(torch.tensor([-math.inf, 1.0])).tolist() == [1.0]


@pytest.mark.htp
@pytest.mark.slow
@MODELS
@pytest.mark.parametrize(("scheme", "steps"), [("w8a8", 1), ("w8a16", 64)])  # softmax is as exact as fp16
def test_masked_softmax_runs_in_integers_on_the_chip(model, scheme, steps, tmp_path):
    prepared, batch = calibrated(model, f"qualcomm:{scheme}")
    quantized = fxquant.convert(prepared)
    report = fxquant.verify(quantized, fxquant.export(quantized, tmp_path), [batch], runtime="htp")
    assert (report.fallbacks, report.float_islands) == ((), ())
    assert report.max_steps <= steps
