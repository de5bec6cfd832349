import json

import pytest
import torch
from torch import nn

from fxquant import quantsim
from fxquant.errors import EncodingsError, QuantizerError
from fxquant.quantsim import QuantizationSimModel, config_utils, load_encodings_to_sim
from tests.quantsim.models import linears

ENTRY = {"min": -4.0, "max": 4.0, "scale": 8.0 / 255.0, "offset": -128, "bitwidth": 8, "dtype": "int"}
ENTRY |= {"is_symmetric": "False"}
DOCUMENT = {
    "activation_encodings": {"0": {"input": {"0": ENTRY}}},
    "param_encodings": {"0.weight": [ENTRY] * 8},
}
TO_AN_ABSENT_QUANTIZER = {"activation_encodings": {"0": {"output": {"0": ENTRY}}}, "param_encodings": {}}
TO_AN_ABSENT_MODULE = {"activation_encodings": {"9": {"output": {"0": ENTRY}}}, "param_encodings": {}}


@pytest.fixture
def sim():
    return QuantizationSimModel(linears(), torch.rand(2, 16))


@pytest.fixture
def calibrated(sim):
    x = torch.randn(32, 16)
    sim.compute_encodings(lambda model: model(x))
    return sim


def quantizers_of(sim):
    return sim.model.get_submodule("0").input_quantizers[0], sim.model.get_submodule("0").param_quantizers[
        "weight"
    ]


def test_saved_encodings_give_equal_outputs(calibrated, tmp_path):
    x, other = torch.randn(8, 16), QuantizationSimModel(calibrated.get_original_model(), torch.rand(2, 16))
    calibrated.save_encodings_to_json(tmp_path, "saved")
    other.load_encodings(tmp_path / "saved.json")
    assert torch.equal(other.model(x), calibrated.model(x))


def test_encodings_are_listed_by_module(calibrated, tmp_path):
    calibrated.save_encodings_to_json(tmp_path, "saved")
    document = json.loads((tmp_path / "saved.json").read_text(encoding="utf-8"))
    assert document["activation_encodings"].keys() == {"0", "1", "2"}
    assert document["activation_encodings"]["0"].keys() == {"input"}
    assert set(document["activation_encodings"]["0"]["input"]["0"]) == set(ENTRY)
    assert {name: len(entry) for name, entry in document["param_encodings"].items()} == {
        "0.weight": 8,
        "2.weight": 4,
    }


def test_blocks_are_listed_one_by_one_and_read_back(tmp_path):
    x, sims = torch.randn(8, 16), []
    model = linears()
    for _ in range(2):
        sim = QuantizationSimModel(model, x)
        config_utils.set_grouped_blockwise_quantization_for_weights(sim, [nn.Linear], 4, True, 8, 4)
        sims.append(sim)
    sims[0].compute_encodings(lambda model: model(x))
    sims[0].save_encodings_to_json(tmp_path, "saved")
    sims[1].load_encodings(tmp_path / "saved.json")
    one, two = (sim.model.get_submodule("0").param_quantizers["weight"] for sim in sims)
    torch.testing.assert_close(one.get_scale(), two.get_scale())


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(TO_AN_ABSENT_QUANTIZER, id="absent_quantizer"),
        pytest.param(TO_AN_ABSENT_MODULE, id="absent_module"),
    ],
)
def test_strict_loading_refuses_an_entry_without_a_quantizer(document, sim):
    with pytest.raises(RuntimeError) as raised:
        sim.load_encodings(document)
    assert isinstance(raised.value, QuantizerError)
    sim.load_encodings(document, strict=False)
    assert sim.model.get_submodule("0").output_quantizers[0] is None


def test_partial_loading_keeps_the_other_quantizers(sim):
    before = list(sim.quantizers())
    sim.load_encodings(DOCUMENT, partial=True)
    assert list(sim.quantizers()) == before


def test_loading_that_is_not_partial_removes_the_other_quantizers(sim):
    sim.load_encodings(DOCUMENT, partial=False)
    assert set(sim.quantizers()) == set(quantizers_of(sim))


def test_load_encodings_to_sim_removes_quantizers_without_an_entry(sim):
    load_encodings_to_sim(sim, DOCUMENT)
    assert set(sim.quantizers()) == set(quantizers_of(sim))


@pytest.mark.parametrize("requires_grad", [True, False])
def test_ranges_are_trained_or_not_as_asked(requires_grad, sim):
    other = sim.model.get_submodule("2").output_quantizers[0]
    sim.load_encodings(DOCUMENT, requires_grad=requires_grad)
    sim.load_encodings(DOCUMENT, requires_grad=None)
    assert [q.min.requires_grad for q in quantizers_of(sim)] == [requires_grad] * 2
    assert other.min.requires_grad


@pytest.mark.parametrize("allowed", [True, False])
def test_later_calibration_changes_what_may_be_overwritten(allowed, sim):
    sim.load_encodings(DOCUMENT, allow_overwrite=allowed)
    sim.compute_encodings(lambda model: model(torch.rand(8, 16) * 100.0))
    activation, weight = quantizers_of(sim)
    assert (activation.get_max().item() > 5.0) is allowed
    assert (weight.get_max().max().item() < 1.0) is allowed


def test_frozen_encodings_stay(sim):
    sim.load_and_freeze_encodings(DOCUMENT)
    assert [q.is_overwrite_allowed() for q in quantizers_of(sim)] == [False, False]


def test_freezing_ignores_absent_quantizers_where_asked(sim):
    sim.load_and_freeze_encodings(TO_AN_ABSENT_QUANTIZER, ignore_when_quantizer_disabled=True)
    with pytest.raises(RuntimeError):
        sim.load_and_freeze_encodings(TO_AN_ABSENT_QUANTIZER)


@pytest.mark.parametrize(
    "document", [DOCUMENT, DOCUMENT["param_encodings"]], ids=["whole", "parameters_alone"]
)
def test_only_encodings_of_parameters_are_frozen(document, sim):
    sim.set_and_freeze_param_encodings(document)
    activation, weight = quantizers_of(sim)
    assert weight.is_initialized()
    assert not weight.is_overwrite_allowed()
    assert not activation.is_initialized()
    assert activation.is_overwrite_allowed()


@pytest.mark.parametrize("text", ["{", "[]"], ids=["no_json", "a_list"])
def test_file_that_holds_no_encodings_is_refused(text, sim, tmp_path):
    path = tmp_path / "broken.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EncodingsError):
        sim.load_encodings(path)


def test_missing_file_is_refused(sim, tmp_path):
    with pytest.raises(EncodingsError, match="cannot be read: No such file"):
        sim.load_encodings(tmp_path / "missing.json")


BAD_ENTRIES = {
    "text": ENTRY | {"scale": "0.1"},
    "negative": ENTRY | {"scale": -1.0},
    "nothing": [],
    "number": 7,
    "no_offset": {name: value for name, value in ENTRY.items() if name != "offset"},
}


@pytest.mark.parametrize("entry", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_entry_that_is_not_sound_is_refused_and_nothing_changes(entry, calibrated):
    before = {name: value.clone() for name, value in calibrated.named_quantizer_parameters()}
    document = {"param_encodings": {"0.weight": [ENTRY] * 8, "2.weight": entry}}
    with pytest.raises(EncodingsError, match=r"parameter '2\.weight' is not sound"):
        calibrated.load_encodings(document)
    after = dict(calibrated.named_quantizer_parameters())
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_entry_of_another_shape_is_refused_and_nothing_changes(calibrated):
    before = {name: value.clone() for name, value in calibrated.named_quantizer_parameters()}
    with pytest.raises(QuantizerError):
        calibrated.load_encodings({"param_encodings": {"0.weight": [ENTRY] * 8, "2.weight": [ENTRY] * 3}})
    after = dict(calibrated.named_quantizer_parameters())
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("version", ["0.6.1", "1.0.0"])
def test_encodings_by_tensor_are_not_taken_for_encodings_by_module(
    version, calibrated, tmp_path, monkeypatch
):
    monkeypatch.setattr(quantsim, "encoding_version", version)
    calibrated.export(tmp_path, "model", torch.rand(2, 16), export_model=False)
    with pytest.raises(EncodingsError, match=r"model\.encodings"):
        calibrated.load_encodings(tmp_path / "model.encodings")
