"""The laws of rounding to a float type."""

import pytest
import torch
from hypothesis import given

from fxquant.quantization.float import FloatType
from fxquant.quantization.float.float_type import FLOAT4_E2M1
from fxquant.quantization.float.rounding import round_to_type
from tests.quantization.float.types import (
    ANY_SMALL_TYPE,
    ANY_TYPE,
    EVERY_SMALL_TYPE,
    EVERY_TORCH_TYPE,
    EVERY_TYPE,
    magnitudes,
    nearest,
    unit_in_the_last_place,
)
from tests.quantization.strategies import ANY_FLOAT, tensors

TIES = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0])  # in the middle of neighbours in float4_e2m1


@given(float_type=ANY_SMALL_TYPE, tensor=tensors(ANY_FLOAT))
def test_the_result_is_the_nearest_number_of_the_type(float_type: FloatType, tensor: torch.Tensor) -> None:
    assert torch.equal(round_to_type(tensor, float_type).double(), nearest(tensor, float_type))


@EVERY_SMALL_TYPE
def test_all_numbers_and_their_middles_are_rounded_right(float_type: FloatType) -> None:
    numbers = magnitudes(float_type)
    middles = (numbers[1:] + numbers[:-1]) / 2
    beside = [torch.nextafter(middles, torch.full_like(middles, end)) for end in (-torch.inf, torch.inf)]
    values = torch.cat([numbers, middles, *beside])
    values = torch.cat([values, -values])
    assert torch.equal(round_to_type(values, float_type), nearest(values, float_type))


@EVERY_TORCH_TYPE
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_the_result_is_that_of_a_saturating_cast(float_type: FloatType, dtype: torch.dtype) -> None:
    every_half = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.float16)
    values = every_half[~every_half.isnan()].to(dtype)
    clamped = values.float().clamp(-float_type.max, float_type.max)
    assert torch.equal(round_to_type(values, float_type), clamped.to(float_type.torch_dtype).to(dtype))


@given(float_type=ANY_TYPE, tensor=tensors(ANY_FLOAT))
def test_rounding_twice_is_rounding_once(float_type: FloatType, tensor: torch.Tensor) -> None:
    rounded = round_to_type(tensor, float_type)
    assert torch.equal(round_to_type(rounded, float_type), rounded)


@given(float_type=ANY_TYPE, tensor=tensors(ANY_FLOAT))
def test_rounding_keeps_the_order(float_type: FloatType, tensor: torch.Tensor) -> None:
    rounded = round_to_type(tensor.flatten().sort().values, float_type)
    assert (rounded[1:] >= rounded[:-1]).all()


@given(float_type=ANY_TYPE, tensor=tensors(ANY_FLOAT))
def test_the_error_in_range_is_at_most_half_a_unit_in_the_last_place(
    float_type: FloatType, tensor: torch.Tensor
) -> None:
    values = tensor.clamp(-float_type.max, float_type.max)
    error = (round_to_type(values, float_type).double() - values.double()).abs()
    assert (error <= unit_in_the_last_place(values, float_type) / 2).all()


@given(float_type=ANY_TYPE, tensor=tensors(ANY_FLOAT))
def test_float64_gives_what_float32_gives(float_type: FloatType, tensor: torch.Tensor) -> None:
    assert torch.equal(round_to_type(tensor.double(), float_type).float(), round_to_type(tensor, float_type))


@given(float_type=ANY_TYPE, tensor=tensors(ANY_FLOAT))
def test_the_sign_does_not_matter(float_type: FloatType, tensor: torch.Tensor) -> None:
    assert torch.equal(round_to_type(-tensor, float_type), -round_to_type(tensor, float_type))


@EVERY_TYPE
def test_zero_stays_zero_and_what_is_too_large_becomes_the_largest(float_type: FloatType) -> None:
    values = torch.tensor([0.0, torch.inf, -torch.inf], dtype=torch.float64)
    assert round_to_type(values, float_type).tolist() == [0.0, float_type.max, -float_type.max]


@EVERY_TYPE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_nan_stays_nan(float_type: FloatType, dtype: torch.dtype) -> None:
    assert round_to_type(torch.full((3,), torch.nan, dtype=dtype), float_type).isnan().all()


@EVERY_TYPE
def test_there_is_a_negative_zero_unless_its_code_is_nan(float_type: FloatType) -> None:
    rounded = round_to_type(torch.tensor([-0.0, -1e-30], dtype=torch.float64), float_type)
    wide_range = float_type.smallest_normal < 1e-30
    assert torch.signbit(rounded[0]).item() is not float_type.unsigned_zero
    assert wide_range or torch.signbit(rounded[1]).item() is not float_type.unsigned_zero


def test_ties_go_to_the_even_code() -> None:
    assert round_to_type(TIES, FLOAT4_E2M1).tolist() == [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]


@EVERY_TYPE
def test_the_tensor_is_not_written(float_type: FloatType) -> None:
    values = torch.tensor([0.3, 1e6, -7.7])
    before = values.clone()
    round_to_type(values, float_type)
    assert torch.equal(values, before)


@EVERY_TORCH_TYPE
def test_a_double_is_rounded_once_not_by_way_of_float32(float_type: FloatType) -> None:
    above_tie = 1 + 2.0 ** -(float_type.mantissa_bits + 1) + 2.0**-40  # float32 would make it the tie
    rounded = round_to_type(torch.tensor([above_tie], dtype=torch.float64), float_type)
    assert rounded.item() == 1 + 2.0**-float_type.mantissa_bits


@pytest.mark.parametrize(
    ("name", "float_type"),
    [
        ("float8_e3m4", FloatType(exponent_bits=3, mantissa_bits=4)),
        ("float8_e4m3", FloatType(exponent_bits=4, mantissa_bits=3)),
        ("float4_e2m1fn", FLOAT4_E2M1),
    ],
)
def test_the_result_is_that_of_ml_dtypes(name: str, float_type: FloatType) -> None:
    reference = pytest.importorskip("ml_dtypes")
    values = (torch.randn(10_000) * 4).clamp(-float_type.max, float_type.max)
    cast = torch.from_numpy(values.numpy().astype(getattr(reference, name)).astype("float32"))
    assert torch.equal(round_to_type(values, float_type), cast)
