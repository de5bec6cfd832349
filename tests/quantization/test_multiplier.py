"""The multiplier's arithmetic: laws, its distance to the quotient's, and its gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxquant.quantization import functional, multiplier

QMIN, QMAX = -128, 127
TENSORS = st.lists(st.floats(-200, 200, width=32), min_size=1, max_size=40).map(torch.tensor)
AMAX = st.floats(2.0**-20, 2.0**20, width=32).map(torch.tensor)


@given(tensor=TENSORS, amax=AMAX)
def test_values_are_whole_multiples_of_the_reciprocal_within_half_a_step(tensor, amax):
    codes, scale = multiplier.quantize(tensor, amax, QMIN, QMAX)
    real = multiplier.quantize_dequantize(tensor, amax, QMIN, QMAX)
    assert torch.equal(real, codes / scale)
    assert torch.equal(codes, codes.round())
    step = amax.double() / QMAX
    inside = tensor.abs() <= amax
    # 2^-23 of the value: the product, the quotient and the multiplier are each rounded once
    bound = step / 2 + tensor.double().abs() * 2.0**-22
    assert bool(((tensor.double() - real.double()).abs() <= bound)[inside].all())


@given(tensor=TENSORS, amax=AMAX)
def test_quantization_keeps_the_order_of_values(tensor, amax):
    ordered = multiplier.quantize_dequantize(tensor.sort().values, amax, QMIN, QMAX)
    assert torch.equal(ordered, ordered.sort().values)


@given(tensor=TENSORS, amax=AMAX)
def test_codes_are_the_quotients_or_a_neighbour_where_it_lies_between_two(tensor, amax):
    codes, _ = multiplier.quantize(tensor, amax, QMIN, QMAX)
    others = functional.quantize(tensor, amax / QMAX, torch.zeros(()), QMIN, QMAX)
    differ = codes != others
    assert bool(((codes - others).abs() <= 1).all())
    ratio = (tensor.double() / amax.double() * QMAX)[differ]
    # four roundings of 2^-24 relative to a ratio of at most 128.5
    assert bool(((ratio - ratio.floor() - 0.5).abs() < 128.5 * 2.0**-22).all())


def test_zero_is_exact_and_amax_is_the_highest_code():
    amax = torch.rand(1000) + 0.1
    codes, _ = multiplier.quantize(torch.stack([torch.zeros(1000), amax, -amax]), amax, QMIN, QMAX)
    assert torch.equal(codes, torch.tensor([[0.0], [127.0], [-127.0]]).expand(3, 1000))


@pytest.mark.parametrize(
    ("counts_floor_as_empty", "wanted"), [(True, 0), (False, 2.0**-24)], ids=["at", "below"]
)
def test_an_empty_range_makes_zeros(counts_floor_as_empty, wanted):
    floor = torch.tensor(multiplier.SMALLEST_AMAX)
    found = multiplier.quantize_dequantize(
        floor.clone(), floor, QMIN, QMAX, counts_floor_as_empty=counts_floor_as_empty
    )
    assert found == wanted
    to_multiply, to_divide = multiplier.multipliers(torch.zeros(()), QMAX)
    assert (to_multiply, to_divide) == (0, 1)


def test_the_gradient_of_codes_counts_them_as_values():
    tensor = torch.tensor([-3.0, 0.5, 2.0], requires_grad=True)
    multiplier.quantize(tensor, torch.tensor(2.0), QMIN, QMAX)[0].backward(torch.tensor([1.0, 2.0, 3.0]))
    assert tensor.grad.tolist() == [0, 2, 3]


def test_codes_below_minus_amax_exist_and_have_no_gradient():
    tensor = torch.tensor([-128.0], requires_grad=True)
    real = multiplier.quantize_dequantize(tensor, torch.tensor(127.0), QMIN, QMAX)
    real.backward()
    assert (real, tensor.grad) == (-128, 0)


def test_the_tensor_given_is_left_as_it_is():
    tensor = torch.randn(100)
    before = tensor.clone()
    multiplier.quantize_dequantize(tensor, torch.tensor(1.0), QMIN, QMAX)
    multiplier.quantize(tensor, torch.tensor(1.0), QMIN, QMAX)
    assert torch.equal(tensor, before)
