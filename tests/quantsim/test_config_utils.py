import pytest
import torch
from torch import nn

from fxquant.errors import FxQuantError, QuantizerError
from fxquant.quantization.affine import GroupedBlockQuantizeDequantize
from fxquant.quantization.float import FloatQuantizeDequantize
from fxquant.quantsim import QuantizationSimModel
from fxquant.quantsim.config_utils import (
    set_activation_quantizers_to_float,
    set_blockwise_quantization_for_weights,
    set_grouped_blockwise_quantization_for_weights,
)


def build():
    layers = (nn.Conv2d(8, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 6, 2), nn.Flatten(), nn.Linear(54, 12))
    return QuantizationSimModel(nn.Sequential(*layers), torch.rand(1, 8, 4, 4))


def weight_quantizer(sim, name):
    return sim.model.get_submodule(name).param_quantizers["weight"]


SELECTIONS = [
    pytest.param(lambda sim: [nn.Conv2d, nn.ConvTranspose2d], id="types"),
    pytest.param(lambda sim: [sim.model.get_submodule("0"), sim.model.get_submodule("2")], id="instances"),
    pytest.param(lambda sim: lambda m: getattr(m, "kernel_size", None) is not None, id="predicate"),
]


@pytest.mark.parametrize("selection", SELECTIONS)
def test_integer_block_size_divides_the_input_channels(selection):
    sim = build()
    set_blockwise_quantization_for_weights(sim, selection(sim), 4, True, block_size=2)
    assert weight_quantizer(sim, "0").shape == (4, 4, 1, 1)  # weight: [out, in, k, k]
    assert tuple(weight_quantizer(sim, "0").block_size) == (1, 2, -1, -1)
    assert weight_quantizer(sim, "2").shape == (2, 6, 1, 1)  # weight: [in, out, k, k]
    assert weight_quantizer(sim, "4").block_size is None
    assert weight_quantizer(sim, "0").bitwidth == 4
    sim.compute_encodings(lambda model: model(torch.rand(1, 8, 4, 4)))


def test_block_sizes_by_axis_are_taken_as_they_are():
    sim = build()
    set_blockwise_quantization_for_weights(sim, [nn.Linear], 4, False, block_size=(-1, 27))
    assert weight_quantizer(sim, "4").shape == (1, 2)
    assert not weight_quantizer(sim, "4").symmetric


@pytest.mark.parametrize("selection", SELECTIONS)
def test_grouped_blocks_share_a_scale_per_output_channel(selection):
    sim = build()
    set_grouped_blockwise_quantization_for_weights(sim, selection(sim), 4, True, 8, block_size=2)
    quantizer = weight_quantizer(sim, "0")
    assert isinstance(quantizer, GroupedBlockQuantizeDequantize)
    assert (quantizer.decompressed_bw, tuple(quantizer.block_grouping)) == (8, (1, -1, 1, 1))
    assert tuple(weight_quantizer(sim, "2").block_grouping) == (-1, 1, 1, 1)
    sim.compute_encodings(lambda model: model(torch.rand(1, 8, 4, 4)))
    assert quantizer.get_encodings().per_block_int_scale.max() <= 16


@pytest.mark.parametrize("grouping", [2, (1, 2, 1, 1)], ids=["integer", "by_axis"])
def test_grouping_may_be_a_number_or_by_axis(grouping):
    sim = build()
    set_grouped_blockwise_quantization_for_weights(
        sim, [nn.Conv2d], 4, True, 8, block_size=(1, 2, -1, -1), block_grouping=grouping
    )
    assert tuple(weight_quantizer(sim, "0").block_grouping) == (1, 2, 1, 1)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize(
    "how", [{"dtype": torch.float16}, {"exponent_bits": 5, "mantissa_bits": 10}], ids=str
)
def test_activations_become_float_where_they_had_quantizers(selection, how):
    sim = build()
    set_activation_quantizers_to_float(sim, selection(sim), **how)
    first, second = sim.model.get_submodule("0"), sim.model.get_submodule("2")
    assert isinstance(first.input_quantizers[0], FloatQuantizeDequantize)
    assert first.output_quantizers[0] is None  # inside a supergroup
    assert isinstance(second.output_quantizers[0], FloatQuantizeDequantize)
    assert not isinstance(sim.model.get_submodule("4").output_quantizers[0], FloatQuantizeDequantize)


@pytest.mark.parametrize(
    ("call", "layer"),
    [
        pytest.param(
            lambda sim: set_blockwise_quantization_for_weights(sim, [nn.Conv2d, nn.Linear], 4, True, 4),
            "4",
            id="does_not_divide",
        ),
        pytest.param(
            lambda sim: set_blockwise_quantization_for_weights(
                sim, [nn.Conv2d, nn.Linear], 4, True, [1, 2, -1, -1]
            ),
            "4",
            id="another_rank",
        ),
        pytest.param(
            lambda sim: set_blockwise_quantization_for_weights(sim, [nn.Conv2d], 4, True, 0), "0", id="zero"
        ),
        pytest.param(
            lambda sim: set_grouped_blockwise_quantization_for_weights(
                sim, [nn.Conv2d, nn.Linear], 4, True, 8, 4
            ),
            "4",
            id="grouped_does_not_divide",
        ),
    ],
)
def test_blocks_that_do_not_fit_name_the_layer_and_change_nothing(call, layer):
    sim = build()
    before = list(sim.quantizers())
    with pytest.raises(FxQuantError) as raised:
        call(sim)
    assert raised.value.layer == layer
    assert list(sim.quantizers()) == before


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((4, False, 8, 2), id="asymmetric"),
        pytest.param((8, True, 4, 2), id="narrower_when_decompressed"),
        pytest.param((4, True, 8, 2, 3), id="grouping_does_not_divide"),
    ],
)
def test_contradicting_groups_are_refused_and_change_nothing(arguments):
    sim = build()
    before = list(sim.quantizers())
    with pytest.raises(QuantizerError):
        set_grouped_blockwise_quantization_for_weights(sim, [nn.Conv2d], *arguments)
    assert list(sim.quantizers()) == before


@pytest.mark.parametrize("selection", [nn.Conv2d, [], "conv", [nn.Conv2d, 3]], ids=str)
def test_selection_of_another_kind_is_refused(selection):
    with pytest.raises(ValueError, match="Cannot select layers"):
        set_blockwise_quantization_for_weights(build(), selection, 4, True, 2)


def test_layer_without_input_channels_needs_a_size_per_axis():
    sim = QuantizationSimModel(nn.Sequential(nn.Embedding(8, 4)), torch.zeros(1, 2, dtype=torch.long))
    with pytest.raises(ValueError, match="no input channels") as raised:
        set_blockwise_quantization_for_weights(sim, [nn.Embedding], 4, True, 2)
    assert raised.value.layer == "0"
    set_blockwise_quantization_for_weights(sim, [nn.Embedding], 4, True, (1, 2))
    assert weight_quantizer(sim, "0").shape == (8, 2)


@pytest.mark.parametrize("how", [{}, {"dtype": torch.float16, "exponent_bits": 5}], ids=["none", "twice"])
def test_float_type_is_given_once(how):
    with pytest.raises(ValueError, match="dtype"):
        set_activation_quantizers_to_float(build(), [nn.Conv2d], **how)
