import pickle

import pytest
import torch

from fxquant.errors import QuantizerError
from fxquant.quantization import FloatEncoding
from fxquant.quantization.float import FrozenFloatDequantize, FrozenFloatQuantizeDequantize

REAL = torch.linspace(-3.0, 3.0, 64).reshape(4, 16)


@pytest.fixture(params=[(), (4, 1)], ids=["per_tensor", "per_channel"])
def encoding(request: pytest.FixtureRequest) -> FloatEncoding:
    return FloatEncoding(3, 4, True, False, torch.rand(request.param) * 0.01 + 0.001)


def test_frozen_quantizer_gives_what_its_encoding_gives(encoding: FloatEncoding) -> None:
    assert torch.equal(FrozenFloatQuantizeDequantize(encoding)(REAL), encoding.quantize_dequantize(REAL))


def test_codes_of_a_byte_are_the_same_values(encoding: FloatEncoding) -> None:
    codes = encoding.to_codes(REAL)
    assert codes.dtype is torch.float8_e4m3fn
    assert torch.equal(FrozenFloatDequantize(encoding)(codes), encoding.quantize_dequantize(REAL))


def test_values_follow_the_type_of_the_model_and_scales_do_not(encoding: FloatEncoding) -> None:
    frozen = FrozenFloatDequantize(encoding).half()
    assert frozen(encoding.to_codes(REAL)).dtype is torch.float16
    assert frozen.scale.dtype is torch.float32


def test_frozen_quantizer_is_pickled(encoding: FloatEncoding) -> None:
    frozen = pickle.loads(pickle.dumps(FrozenFloatQuantizeDequantize(encoding)))
    assert torch.equal(frozen(REAL), encoding.quantize_dequantize(REAL))


def test_gradient_passes_straight_through(encoding: FloatEncoding) -> None:
    real = REAL.clone().requires_grad_()
    FrozenFloatQuantizeDequantize(encoding)(real).sum().backward()
    assert torch.equal(real.grad, (REAL.abs() <= encoding.maxval * (1 + 2**-22)).float())


def test_range_of_a_frozen_quantizer_cannot_be_set(encoding: FloatEncoding) -> None:
    with pytest.raises(QuantizerError, match="fixed"):
        FrozenFloatQuantizeDequantize(encoding).set_range_from_stats()
