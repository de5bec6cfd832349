"""Where values lie within a range, and gradients that pass there."""

import pytest
import torch

from fxquant.quantization.within import is_within, passed
from tests.quantization.strategies import LAYOUTS


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_both_ends_are_within_and_nan_is_not(dtype):
    x = torch.tensor([-torch.inf, -1.5, -1, 0, 2, 2.5, torch.inf, torch.nan], dtype=dtype)
    assert is_within(x, torch.tensor(-1.0), torch.tensor(2.0)).tolist() == [0, 0, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_ends_of_channels_are_compared_in_every_layout(layout):
    x = layout(torch.randn(4, 3, 128, 256))
    high = torch.tensor([0.5, 1.0, 2.0]).reshape(1, 3, 1, 1)
    assert torch.equal(is_within(x, -high, high).bool(), x.abs() <= high)


def test_gradients_pass_where_the_mask_is_one():
    mask = torch.tensor([1, 0, 1], dtype=torch.int8)
    assert passed(torch.tensor([1.0, 2.0, 3.0]).half(), mask).tolist() == [1, 0, 3]
