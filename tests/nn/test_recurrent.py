"""Recurrent modules: parameters, states and sequences of every kind."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from fxquant.nn import QuantizationMixin
from fxquant.quantization.affine import QuantizeDequantize
from tests.nn import torch_cases
from tests.nn.cases import Case, normal

RECURRENT = pytest.mark.parametrize("case", torch_cases.RECURRENT.values(), ids=list(torch_cases.RECURRENT))


def quantizer(limit: float = 1.0) -> QuantizeDequantize:
    """Return a coarse quantizer."""
    made = QuantizeDequantize((), 5, True)
    made.set_range(-limit, limit)
    return made


@RECURRENT
def test_parameters_are_quantized(case: Case) -> None:
    module = QuantizationMixin.from_module(case.module)
    for name in module.param_quantizers:
        module.param_quantizers[name] = quantizer()
    parameters = {name: quantizer()(value).detach() for name, value in case.module.named_parameters()}
    expected = functional_call(case.module, parameters, case.inputs)
    torch.testing.assert_close(module(*case.inputs), expected)  # another weight layout rounds otherwise


@RECURRENT
def test_frozen_parameters_give_what_quantized_ones_give(case: Case) -> None:
    module = QuantizationMixin.from_module(case.module)
    for name in module.param_quantizers:
        module.param_quantizers[name] = quantizer()
    expected = module(*case.inputs)
    for name in list(module.param_quantizers):
        module.freeze_parameter(name, module.param_quantizers[name].get_encodings())
    torch.testing.assert_close(module(*case.inputs), expected, rtol=0, atol=0)


def test_gradients_reach_the_weights_and_their_ranges() -> None:
    module = QuantizationMixin.from_module(nn.LSTM(4, 5))
    module.param_quantizers["weight_hh_l0"] = quantizer(0.1)
    module(normal(3, 2, 4))[0].sum().backward()
    assert module.weight_hh_l0.grad.count_nonzero() > 0
    assert module.param_quantizers["weight_hh_l0"].max.grad is not None


def test_states_and_outputs_have_quantizers_in_order() -> None:
    lstm, x, h, c = nn.LSTM(4, 5), normal(3, 2, 4), normal(1, 2, 5), normal(1, 2, 5).abs()
    module = QuantizationMixin.from_module(lstm)
    for index in range(3):
        module.input_quantizers[index] = quantizer(index + 1.0)
        module.output_quantizers[index] = quantizer(index + 0.5)
    output, (last_h, last_c) = module(x, (h, c))
    expected, (expected_h, expected_c) = lstm(quantizer(1.0)(x), (quantizer(2.0)(h), quantizer(3.0)(c)))
    assert torch.equal(output, quantizer(0.5)(expected))
    assert torch.equal(last_h, quantizer(1.5)(expected_h))
    assert torch.equal(last_c, quantizer(2.5)(expected_c))


def test_a_state_that_is_not_given_is_observed_as_zero() -> None:
    module = QuantizationMixin.from_module(nn.GRU(4, 5))
    module.input_quantizers[1] = QuantizeDequantize((), 8, True)
    with module.compute_encodings():
        module(normal(3, 2, 4))
    assert module.input_quantizers[1].is_initialized()


def test_a_packed_sequence_is_quantized_and_stays_packed() -> None:
    gru = nn.GRU(4, 5)
    packed = pack_padded_sequence(normal(3, 2, 4), torch.tensor([3, 1]))
    module = QuantizationMixin.from_module(gru)
    module.input_quantizers[0] = quantizer()
    output, _ = module(packed)
    expected, _ = gru(packed._replace(data=quantizer()(packed.data)))
    assert isinstance(output, PackedSequence)
    assert torch.equal(output.data, expected.data)


def test_a_new_weight_of_the_quantized_module_leaves_the_float_one_alone() -> None:
    lstm = nn.LSTM(4, 5)
    module = QuantizationMixin.from_module(lstm)
    module.weight_hh_l0 = nn.Parameter(torch.zeros_like(lstm.weight_hh_l0))
    assert lstm._flat_weights[1] is lstm.weight_hh_l0


def test_samples_of_a_bag_are_weighted_by_quantized_weights() -> None:
    bag, weights = nn.EmbeddingBag(7, 4, mode="sum"), normal(2, 3)
    tokens = torch.tensor([[0, 3, 5], [5, 1, 0]])
    module = QuantizationMixin.from_module(bag)
    module.input_quantizers[0] = quantizer()
    assert torch.equal(module(tokens, None, weights), bag(tokens, None, quantizer()(weights)))
