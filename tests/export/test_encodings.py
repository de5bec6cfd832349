import json

import pytest
import torch
from torch import nn

import fxquant
from fxquant import quantsim
from fxquant.errors import NotCalibratedError, OptionError
from fxquant.export import VERSIONS, encodings_json, read_encodings
from fxquant.quantsim import QuantizationSimModel, config_utils
from fxquant.quantsim.sim_export import prepared_graph
from tests.networks import UNet
from tests.quantsim.models import tensors_of

ACTIVATIONS = ["input", "0"]


def documents(change=None, version="1.0.0"):
    """Return the encodings of a convolution of 8 to 4 channels, and the simulation they are of."""
    x = torch.randn(2, 8, 5, 5)
    sim = QuantizationSimModel(nn.Sequential(nn.Conv2d(8, 4, 3)), x)
    if change is not None:
        change(sim)
    sim.compute_encodings(lambda model: model(x))
    return encodings_json(prepared_graph(sim), version), sim


def in_blocks(sim):
    config_utils.set_blockwise_quantization_for_weights(sim, [nn.Conv2d], 4, True, 2)


def in_groups(sim):
    config_utils.set_grouped_blockwise_quantization_for_weights(sim, [nn.Conv2d], 4, True, 8, 2)


def in_float(sim):
    config_utils.set_activation_quantizers_to_float(sim, [nn.Conv2d], dtype=torch.float16)


def encoding_of(sim):
    return sim.model.get_submodule("0").param_quantizers["weight"].get_encodings()


@pytest.mark.parametrize("version", VERSIONS)
def test_document_says_its_version_and_producer(version):
    document, _ = documents(version=version)
    assert list(document)[:2] == ["producer", "version"]
    assert document["version"] == version
    assert document["producer"] == {"package": "fxquant", "version": fxquant.__version__}


@pytest.mark.parametrize("version", ["0.6.1", "1.0.0"])
def test_versions_before_2_end_with_what_was_left_out_and_what_encodings_have_in_common(version):
    document, _ = documents(version=version)
    sections = ["activation_encodings", "param_encodings", "excluded_layers", "quantizer_args"]
    assert list(document)[2:] == sections
    assert document["excluded_layers"] == []
    assert document["quantizer_args"] == {
        "quant_scheme": "min_max",
        "param_bitwidth": 8,
        "activation_bitwidth": 8,
        "dtype": "int",
        "is_symmetric": True,
        "per_channel_quantization": True,
    }


@pytest.mark.parametrize("version", ["2.0.0", "2.1.0"])
def test_versions_from_2_on_are_one_list_in_the_order_of_the_graph(version):
    document, _ = documents(version=version)
    assert list(document)[2:] == ["encodings"]
    assert [entry["name"] for entry in document["encodings"]] == ["input", "0.weight", "0"]


@pytest.mark.parametrize("version", VERSIONS)
def test_int32_biases_are_in_versions_from_2_on(version):
    model = fxquant.quantize(
        nn.Sequential(nn.Conv2d(8, 4, 3)), [torch.rand(2, 8, 5, 5)], target="onnxruntime"
    )
    document = encodings_json(model.model, version)
    entries = document.get("encodings", document.get("param_encodings"))
    names = list(entries) if version == "0.6.1" else [entry["name"] for entry in entries]
    assert ("0.bias" in names) is (version in ("2.0.0", "2.1.0"))
    if version == "2.0.0":
        by_name = {entry["name"]: entry for entry in entries}
        scales = torch.tensor(by_name["0.weight"]["y_scale"]) * torch.tensor(by_name["input"]["y_scale"])
        bias = {"name": "0.bias", "output_dtype": "int32", "y_scale": scales.tolist(), "axis": 0}
        assert by_name["0.bias"] == bias


def test_simulation_says_its_scheme_and_the_layers_left_out(tmp_path):
    x = torch.randn(2, 8, 5, 5)
    sim = QuantizationSimModel(
        nn.Sequential(nn.Conv2d(8, 4, 3), nn.Conv2d(4, 4, 3)), x, quant_scheme="tf_enhanced"
    )
    sim.exclude_layers_from_quantization([sim.model.get_submodule("1")])
    sim.compute_encodings(lambda model: model(x))
    sim.export(tmp_path, "model", x, export_model=False)
    document = json.loads((tmp_path / "model.encodings").read_text(encoding="utf-8"))
    assert document["quantizer_args"]["quant_scheme"] == "post_training_tf_enhanced"
    assert document["excluded_layers"] == ["1"]


def test_version_0_6_1_is_keyed_by_tensor_with_a_range_per_channel():
    document, sim = documents(version="0.6.1")
    assert list(document["activation_encodings"]) == ACTIVATIONS
    keys = {"min", "max", "scale", "offset", "bitwidth", "dtype", "is_symmetric"}
    assert document["activation_encodings"]["input"][0].keys() == keys
    weights = document["param_encodings"]["0.weight"]
    assert [entry["offset"] for entry in weights] == [-128] * 4  # counted from an unsigned grid
    assert [entry["scale"] for entry in weights] == encoding_of(sim).scale.flatten().tolist()


def test_version_1_0_0_names_the_kind_of_encoding():
    document, sim = documents()
    first, second = document["activation_encodings"]
    assert [first["name"], second["name"]] == ACTIVATIONS
    assert (first["enc_type"], first["dtype"], first["bw"], first["is_sym"]) == (
        "PER_TENSOR",
        "INT",
        8,
        False,
    )
    (weight,) = document["param_encodings"]
    assert weight == {
        "name": "0.weight",
        "dtype": "INT",
        "bw": 8,
        "is_sym": True,
        "scale": encoding_of(sim).scale.flatten().tolist(),
        "offset": [-128] * 4,
        "enc_type": "PER_CHANNEL",
    }


def test_version_1_0_0_says_blocks():
    document, sim = documents(in_blocks)
    (weight,) = document["param_encodings"]
    assert (weight["enc_type"], weight["block_size"], weight["bw"]) == ("PER_BLOCK", 2, 4)
    assert weight["scale"] == encoding_of(sim).scale.flatten().tolist()
    assert weight["offset"] == [-8] * 16


def test_version_1_0_0_says_groups_of_blocks():
    document, sim = documents(in_groups)
    (weight,) = document["param_encodings"]
    encoding = encoding_of(sim)
    assert (weight["enc_type"], weight["block_size"]) == ("LPBQ", 2)
    assert (weight["bw"], weight["compressed_bw"]) == (8, 4)
    assert weight["scale"] == encoding.per_channel_scale.flatten().tolist()
    assert weight["offset"] == [-128] * 4
    assert weight["per_block_int_scale"] == encoding.per_block_int_scale.flatten().tolist()


def test_version_1_0_0_says_16_bit_floats():
    document, _ = documents(in_float)
    assert document["activation_encodings"] == [
        {"name": name, "dtype": "FLOAT", "bw": 16, "enc_type": "PER_TENSOR"} for name in ACTIVATIONS
    ]


def test_version_2_0_0_is_the_attributes_of_quantize_linear():
    document, sim = documents(version="2.0.0")
    first, weight, _ = document["encodings"]
    assert first["output_dtype"] == "uint8"
    assert weight == {
        "name": "0.weight",
        "output_dtype": "int8",
        "y_scale": encoding_of(sim).scale.flatten().tolist(),
        "axis": 0,
    }


def test_version_2_0_0_nests_the_scales_of_blocks():
    document, sim = documents(in_blocks, "2.0.0")
    weight = document["encodings"][1]
    assert (weight["output_dtype"], weight["axis"], weight["block_size"]) == ("int4", 1, 2)
    assert weight["y_scale"] == encoding_of(sim).scale.tolist()


def test_version_2_0_0_splits_the_scales_of_groups():
    document, sim = documents(in_groups, "2.0.0")
    weight, encoding = document["encodings"][1], encoding_of(sim)
    assert weight["per_block_int_scale"] == encoding.per_block_int_scale.tolist()
    assert weight["per_channel_float_scale"] == encoding.per_channel_scale.tolist()
    assert "y_scale" not in weight


def test_version_2_1_0_quantizes_the_scales_of_groups():
    document, sim = documents(in_groups, "2.1.0")
    weight, encoding = document["encodings"][1], encoding_of(sim)
    assert weight == {
        "name": "0.weight",
        "output_dtype": "int4",
        "y_scale": {
            "x": encoding.per_block_int_scale.tolist(),
            "x_scale": encoding.per_channel_scale.flatten().tolist(),
            "axis": -4,
        },
        "axis": 1,
        "block_size": 2,
    }


def test_version_2_0_0_leaves_16_bit_floats_out():
    document, _ = documents(in_float, "2.0.0")
    assert [entry["name"] for entry in document["encodings"]] == ["0.weight"]


@pytest.mark.parametrize("change", [None, in_blocks, in_groups], ids=["channels", "blocks", "groups"])
@pytest.mark.parametrize("version", VERSIONS)
def test_simulation_lists_int32_biases_from_version_2_on(version, change, tmp_path, monkeypatch):
    x = torch.randn(2, 8, 5, 5)
    sim = QuantizationSimModel(nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 4, 2)), x)
    if change is not None:
        change(sim)
    sim.compute_encodings(lambda model: model(x))
    monkeypatch.setattr(quantsim, "encoding_version", version)
    sim.export(tmp_path, "model", x, export_model=False)
    entries = read_encodings(tmp_path / "model.encodings").entries
    assert ("1.bias" in entries) is (version >= "2")
    if version >= "2":
        weight = sim.model.get_submodule("1").param_quantizers["weight"].get_encodings()
        per_channel = weight.per_channel_scale if change is in_groups else weight.scale.amax((1, 2, 3))
        scales = per_channel.flatten() * entries["input"]["y_scale"]  # which the pool hands on
        bias = {"name": "1.bias", "output_dtype": "int32", "y_scale": scales.tolist(), "axis": 0}
        assert entries["1.bias"] == bias


def test_model_without_ranges_has_no_encodings():
    with pytest.raises(NotCalibratedError, match="tensor 'input' has no range"):
        encodings_json(fxquant.prepare(nn.Sequential(nn.Conv2d(8, 4, 3)), target="onnxruntime"))


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_is_that_of_a_tensor_in_the_file(version, tmp_path):
    model = fxquant.quantize(UNet().eval(), [torch.rand(2, 3, 16, 16)], target="onnxruntime").model
    files = fxquant.export(model, tmp_path, encodings_version=version)
    names = set(read_encodings(files.encodings).entries)
    assert names >= {"x", "down1.weight", "down2"}
    assert names - tensors_of(files.onnx) == set()


def test_unknown_version_is_refused():
    with pytest.raises(OptionError, match=r"encodings format '0.5'"):
        documents(version="0.5")
