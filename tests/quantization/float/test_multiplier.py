"""The multiplier's arithmetic on float types: torch's cast of the scaled values, and its gradient."""

import pytest
import torch

from fxquant.quantization.float.float_type import FLOAT8_E4M3FN, FLOAT8_E5M2
from fxquant.quantization.float.multiplier import quantize_dequantize


@pytest.mark.parametrize("float_type", [FLOAT8_E4M3FN, FLOAT8_E5M2], ids=str)
@pytest.mark.parametrize("amax", [None, 0.7, 3e4], ids=str)
def test_values_are_torchs_cast_of_the_scaled_ones(float_type, amax):
    x = torch.randn(10_000) * 10.0 ** torch.randint(-6, 6, (10_000,))
    scale = 1.0 if amax is None else torch.tensor(float_type.max) / torch.tensor(amax)
    cast = (x * scale).clamp(-float_type.max, float_type.max).to(float_type.torch_dtype).float() / scale
    found = quantize_dequantize(x, None if amax is None else torch.tensor(amax), float_type)
    assert torch.equal(found, cast.masked_fill(x.abs() < 2.0**-24, 0.0))


def test_an_empty_range_and_tiny_values_are_zero():
    found = quantize_dequantize(torch.tensor([0.0, 2.0**-25]), torch.tensor(0.0), FLOAT8_E4M3FN)
    assert found.tolist() == [0, 0]


def test_gradients_pass_up_to_amax():
    x = torch.tensor([-2.0, -1.0, 0.3, 1.0, 1.5, torch.nan], requires_grad=True)
    quantize_dequantize(x, torch.tensor(1.0), FLOAT8_E4M3FN).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0, 0]
