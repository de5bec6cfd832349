"""What each quantizer does to a model's outputs."""

import copy
import json
import math

import pytest
import torch
from torch import nn

import fxquant
from fxquant.analysis import Switches, units_by_layer, units_by_site
from fxquant.analysis.output_error import OutputError
from fxquant.errors import (
    BatchError,
    ModelTypeError,
    NonFiniteError,
    NotCalibratedError,
    OptionError,
)
from fxquant.graph.structure import tensors_in
from tests import networks

CHOICES = ("one", "all-but-one")


class Branching(nn.Module):
    """A layer that stays whole, as it branches on what its input holds, and calls a layer."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return torch.relu(self.inner(x)) if bool(x.sum() > -1e9) else x


def opaque():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), Branching(), nn.Linear(8, 4)).eval(), torch.randn(5, 8)


CASES = networks.cases() | {"opaque": opaque()}


def prepared_case(name, target="onnxruntime"):
    model, batch = copy.deepcopy(CASES[name])
    prepared = fxquant.prepare(model, batch, target=target)
    fxquant.calibrate(prepared, [copy.deepcopy(batch)], progress=False)
    return model, prepared, batch


def run(model, batch):
    given = copy.deepcopy(batch)  # a forward may write into it
    with torch.no_grad():
        return model(**given) if isinstance(given, dict) else model(given)


def same(one, other):
    pairs = zip(tensors_in(one), tensors_in(other), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("alone", CHOICES)
@pytest.mark.parametrize("by", ["site", "layer"])
@pytest.mark.parametrize("name", CASES)
def test_rows_are_those_of_whole_runs(name, by, alone):
    _, prepared, batch = prepared_case(name)
    found = fxquant.measure_sensitivity(prepared, [batch, batch], alone, by=by, progress=False)
    switches = Switches(prepared)
    with switches.without(switches.quantizers):
        wanted = run(prepared, batch)
    for unit, row in zip(
        (units_by_site if by == "site" else units_by_layer)(prepared), found.rows, strict=True
    ):
        with switches.only(unit.quantizers) if alone == "one" else switches.without(unit.quantizers):
            outputs = run(prepared, batch)
        error = OutputError()
        error.add(outputs, wanted)
        error.add(outputs, wanted)
        assert (row.sqnr, row.mse, row.cosine) == (error.sqnr, error.mse, error.cosine)
    whole = OutputError()
    whole.add(run(prepared, batch), wanted)
    assert found.whole.mse == whole.mse


@pytest.mark.parametrize("name", CASES)
def test_without_quantizers_it_is_the_float_model(name):
    model, prepared, batch = prepared_case(name)
    switches = Switches(prepared)
    quantized = run(prepared, batch)
    with switches.without(switches.quantizers):
        pairs = zip(tensors_in(run(prepared, batch)), tensors_in(run(model, batch)), strict=True)
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)  # folded norms round apart
    assert same(run(prepared, batch), quantized)


@pytest.mark.parametrize("name", CASES)
def test_all_units_together_are_the_whole_model(name):
    _, prepared, batch = prepared_case(name)
    every = [quantizer for unit in units_by_site(prepared) for quantizer in unit.quantizers]
    with Switches(prepared).only(every):
        outputs = run(prepared, batch)
    assert same(outputs, run(prepared, batch))
    layers = [quantizer for unit in units_by_layer(prepared) for quantizer in unit.quantizers]
    assert len(every) == len(layers)
    assert set(every) == set(layers)


def chain():
    torch.manual_seed(0)
    layers = [part for _ in range(5) for part in (nn.Linear(32, 32), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(32, 8)).eval()


def spoiled(index):
    """A chain in which one layer's weight has one row that takes the range of all of them."""
    model = chain()
    with torch.no_grad():
        model[index].weight[0, 0] = 400.0
        model[index].bias[0] = -2000.0  # the ReLU behind hides that channel, but for what its weight loses
    return model


@pytest.mark.parametrize("alone", CHOICES)
@pytest.mark.parametrize("by", ["site", "layer"])
def test_the_layer_built_to_be_bad_is_found_first(by, alone):
    data = [torch.rand(16, 32) for _ in range(2)]
    prepared = fxquant.prepare(spoiled(4), data[0], target="tensorrt")
    for module in prepared.modules():  # one range for the whole weight: the large entry costs all others
        if hasattr(module, "param_quantizers") and "weight" in module.param_quantizers:
            old = module.param_quantizers["weight"]
            module.param_quantizers["weight"] = type(old)((), 8, symmetric=True)
            module.param_quantizers["weight"].returns_encoding = False
    fxquant.calibrate(prepared, data, progress=False)
    found = fxquant.measure_sensitivity(prepared, data, alone, by=by, progress=False)
    assert found.ranked()[0].layer == "4"
    analysis = fxquant.analyze(prepared, data, progress=False)
    weights = [site for site in analysis.ranked() if site.kind == "weight"]
    by_error = max(weights, key=lambda site: site.mse)
    assert by_error.layer == "4"


def test_prefix_is_shared():
    data = [torch.rand(16, 32) for _ in range(2)]
    prepared = fxquant.prepare(chain(), data[0], target="onnxruntime")
    fxquant.calibrate(prepared, data, progress=False)
    found = fxquant.measure_sensitivity(prepared, data, progress=False)
    assert 0.3 < found.share_run < 0.7


def test_evaluate_scores_every_unit_and_decides_the_order():
    model, prepared, batch = prepared_case("unet")
    wanted = run(model, batch)
    found = fxquant.measure_sensitivity(
        prepared,
        [batch],
        evaluate=lambda m: -float((run(m, batch) - wanted).abs().max()),
        progress=False,
    )
    scores = [row.score for row in found.ranked()]
    assert scores == sorted(scores)
    assert found.whole.score == -float((run(prepared, batch) - wanted).abs().max())


class Broken(Exception):
    pass


@pytest.mark.parametrize("alone", CHOICES)
@pytest.mark.parametrize("name", CASES)
def test_an_error_leaves_the_model_as_it_was(name, alone):
    _, prepared, batch = prepared_case(name)
    before, state = run(prepared, batch), [(n, id(m)) for n, m in prepared.named_modules()]
    calls = []

    def evaluate(model):
        calls.append(model)
        if len(calls) == 2:
            raise Broken
        return 0.0

    with pytest.raises(Broken):
        fxquant.measure_sensitivity(prepared, [batch], alone, evaluate=evaluate, progress=False)
    assert [(n, id(m)) for n, m in prepared.named_modules()] == state
    assert not any("forward" in vars(quantizer) for quantizer in Switches(prepared).quantizers)
    assert same(run(prepared, batch), before)


def test_a_unit_switched_twice_stays_off_until_the_outer_context_ends():
    _, prepared, batch = prepared_case("functional")
    switches = Switches(prepared)
    with switches.without(switches.quantizers):
        wanted = run(prepared, batch)
        with switches.without(switches.quantizers[:2]):
            pass
        assert same(run(prepared, batch), wanted)


@pytest.mark.parametrize("activations", ["cpu", "disk"])
def test_offload_changes_nothing(activations, tmp_path):
    _, prepared, batch = prepared_case("unet")
    offload = fxquant.Offload(activations=activations, folder=tmp_path)
    found = fxquant.measure_sensitivity(prepared, [batch], progress=False, offload=offload)
    assert found == fxquant.measure_sensitivity(prepared, [batch], progress=False)
    assert list(tmp_path.iterdir()) == []


def test_batches_are_limited():
    _, prepared, batch = prepared_case("reuse")
    assert fxquant.measure_sensitivity(prepared, [batch] * 9, max_batches=2, progress=False).num_batches == 2


def test_report_is_text_and_json():
    _, prepared, batch = prepared_case("reuse")
    found = fxquant.measure_sensitivity(prepared, [batch], "all-but-one", progress=False)
    assert json.loads(found.to_json())["alone"] == "all-but-one"
    assert str(found.ranked()[0]) in str(found)


def test_sensitivity_refuses_what_it_cannot_measure():
    model, prepared, batch = prepared_case("unet")
    with pytest.raises(ModelTypeError):
        fxquant.measure_sensitivity(model, [batch])
    with pytest.raises(NotCalibratedError):
        fxquant.measure_sensitivity(fxquant.prepare(model, batch), [batch], progress=False)
    for options in (
        {"alone": "two"},
        {"by": "op"},
        {"max_batches": 0},
        {"offload": fxquant.Offload(device="cpu")},
    ):
        with pytest.raises(OptionError):
            fxquant.measure_sensitivity(prepared, [batch], progress=False, **options)
    with pytest.raises(BatchError, match="no batch"):
        fxquant.measure_sensitivity(prepared, [], progress=False)
    with pytest.raises(BatchError, match="rejects batch 0"):
        fxquant.measure_sensitivity(prepared, [torch.randn(2, 7, 16, 16)], progress=False)
    with pytest.raises(NonFiniteError):
        fxquant.measure_sensitivity(prepared, [torch.full_like(batch, math.nan)], progress=False)
