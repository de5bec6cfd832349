"""Affine quantization between two ends: on the grid it is exact, and the ends cut gradients off."""

import pytest
import torch

from fxquant.quantization.affine_range import quantize_dequantize_between


@pytest.mark.parametrize("num_bits", [4, 8], ids=str)
def test_values_on_the_grid_stay(num_bits):
    half = 2 ** (num_bits - 1)
    x = torch.arange(-half, half).float()
    assert torch.equal(quantize_dequantize_between(x, x.min(), x.max(), num_bits), x)


def test_values_beyond_the_ends_become_the_ends():
    low, high = torch.tensor(-0.5), torch.tensor(1.5)
    found = quantize_dequantize_between(torch.tensor([-9.0, 9.0]), low, high, 8)
    # the zero point moves the grid by up to half a step of 2 / 255
    assert (found - torch.tensor([-0.5, 1.5])).abs().max() <= 1 / 255 + 1e-6


def test_gradients_pass_between_the_ends_and_the_ends_get_none():
    ends = torch.tensor(-1.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    x = torch.tensor([-1.5, -1.0, 0.0, 2.0, 2.5], requires_grad=True)
    quantize_dequantize_between(x, *ends, 8).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]
    assert [end.grad for end in ends] == [None, None]
