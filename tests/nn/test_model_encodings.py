"""Calibration of all quantized modules of a model at once."""

import torch
from torch import nn

from fxquant.nn import QuantizedLinear, compute_encodings, compute_param_encodings
from fxquant.quantization.affine import QuantizeDequantize
from tests.nn.cases import normal


class Model(nn.Module):
    """Two quantized modules with one quantizer between them, and a quantizer on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = QuantizedLinear(4, 4), QuantizedLinear(4, 4)
        self.alone = QuantizeDequantize((), 2, False)
        self.first.output_quantizers[0] = self.second.input_quantizers[0] = QuantizeDequantize((), 2, False)
        self.first.param_quantizers["weight"] = QuantizeDequantize((4, 1), 8, True)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden = self.first(x)
        return hidden, self.alone(self.second(hidden))


def test_activations_pass_and_quantizers_on_their_own_quantize() -> None:
    model, x = Model(), normal(3, 4)
    with compute_encodings(model):
        hidden, output = model(x)
    quantized_weight = model.first.param_quantizers["weight"](model.first.weight)
    assert torch.equal(hidden, nn.functional.linear(x, quantized_weight, model.first.bias))
    assert len(output.unique()) <= 4


def test_all_quantizers_have_a_range_afterwards() -> None:
    model = Model()
    with compute_encodings(model):
        model(normal(3, 4))
    assert all(m.is_initialized() for m in model.modules() if isinstance(m, QuantizeDequantize))
    assert not any(m._observes for m in model.modules() if isinstance(m, QuantizeDequantize))


def test_a_range_that_may_not_be_overwritten_stays() -> None:
    model = Model()
    model.alone.set_range(-1.0, 2.0)
    model.alone.allow_overwrite(False)
    with compute_encodings(model):
        model(normal(3, 4))
    assert (model.alone.min.item(), model.alone.max.item()) == (-1.0, 2.0)


def test_parameters_alone_can_be_calibrated() -> None:
    model = Model()
    compute_param_encodings(model)
    assert model.first.param_quantizers["weight"].is_initialized()
    assert not model.alone.is_initialized()
    assert not model.first.output_quantizers[0].is_initialized()
