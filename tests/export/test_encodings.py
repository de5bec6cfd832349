import pytest
import torch
from torch import nn

from fxquant.errors import OptionError
from fxquant.export.encodings import VERSIONS, encodings_json
from fxquant.quantsim import QuantizationSimModel, config_utils
from fxquant.quantsim.sim_export import prepared_graph

ACTIVATIONS = ["input", "0"]


def documents(change=None, version="1.0.0"):
    """Return the encodings of a convolution of 8 to 4 channels, and the simulation they are of."""
    x = torch.randn(2, 8, 5, 5)
    sim = QuantizationSimModel(nn.Sequential(nn.Conv2d(8, 4, 3)), x)
    if change is not None:
        change(sim)
    sim.compute_encodings(lambda model: model(x))
    return encodings_json(prepared_graph(sim), "test", version), sim


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
    assert (document["version"], document["producer"]) == (version, "test")


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
    first, _, weight = document["encodings"]
    assert first["output_dtype"] == "uint8"
    assert weight == {
        "name": "0.weight",
        "output_dtype": "int8",
        "y_scale": encoding_of(sim).scale.flatten().tolist(),
        "axis": -4,
    }


def test_version_2_0_0_nests_the_scales_of_blocks():
    document, sim = documents(in_blocks, "2.0.0")
    weight = document["encodings"][2]
    assert (weight["output_dtype"], weight["axis"], weight["block_size"]) == ("int4", -3, 2)
    assert weight["y_scale"] == encoding_of(sim).scale.tolist()


def test_version_2_0_0_splits_the_scales_of_groups():
    document, sim = documents(in_groups, "2.0.0")
    weight, encoding = document["encodings"][2], encoding_of(sim)
    assert weight["per_block_int_scale"] == encoding.per_block_int_scale.tolist()
    assert weight["per_channel_float_scale"] == encoding.per_channel_scale.tolist()
    assert "y_scale" not in weight


def test_version_2_0_0_leaves_16_bit_floats_out():
    document, _ = documents(in_float, "2.0.0")
    assert [entry["name"] for entry in document["encodings"]] == ["0.weight"]


def test_unknown_version_is_refused():
    with pytest.raises(OptionError, match=r"encodings format '0.5'"):
        documents(version="0.5")
