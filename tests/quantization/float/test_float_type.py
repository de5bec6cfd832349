"""FloatType: limits, names, and what it refuses."""

import pytest
import torch

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization.float import FloatType
from fxquant.quantization.float.float_type import FLOAT4_E2M1, FLOAT8_E4M3FN, FLOAT16
from tests.quantization.float.types import EVERY_TORCH_TYPE, TORCH_TYPES, magnitudes


@EVERY_TORCH_TYPE
def test_limits_are_those_of_torch(float_type: FloatType) -> None:
    info = torch.finfo(float_type.torch_dtype)
    found = float_type.max, float_type.smallest_normal, float_type.bitwidth, str(float_type)
    assert found == (info.max, info.smallest_normal, info.bits, info.dtype)


@EVERY_TORCH_TYPE
def test_a_torch_dtype_gives_the_type_and_back(float_type: FloatType) -> None:
    assert float_type.torch_dtype is not None
    assert FloatType.of_torch(float_type.torch_dtype) == float_type


@pytest.mark.parametrize("float_type", [*TORCH_TYPES, FLOAT4_E2M1], ids=str)
def test_an_onnx_name_gives_the_type_and_back(float_type: FloatType) -> None:
    assert float_type.onnx_dtype is not None
    assert FloatType.of_onnx(float_type.onnx_dtype) == float_type


@pytest.mark.parametrize(
    ("float_type", "largest", "smallest_normal"),
    [
        (FLOAT4_E2M1, 6.0, 1.0),
        (FloatType(exponent_bits=3, mantissa_bits=4), 15.5, 0.25),
        (FloatType(exponent_bits=4, mantissa_bits=3), 240.0, 2.0**-6),
        (FloatType(exponent_bits=8, mantissa_bits=23), torch.finfo(torch.float32).max, 2.0**-126),
        (FloatType(exponent_bits=11, mantissa_bits=52), torch.finfo(torch.float64).max, 2.0**-1022),
    ],
    ids=str,
)
def test_limits_of_other_types(float_type: FloatType, largest: float, smallest_normal: float) -> None:
    assert (float_type.max, float_type.smallest_normal) == (largest, smallest_normal)


def test_the_numbers_of_float4_are_those_of_its_specification() -> None:
    assert magnitudes(FLOAT4_E2M1).tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def test_a_type_without_a_torch_dtype_is_named_by_its_bits() -> None:
    assert str(FloatType(exponent_bits=3, mantissa_bits=4)) == "float8_e3m4"
    assert str(FLOAT4_E2M1) == "float4_e2m1fn"


@pytest.mark.parametrize(("exponent_bits", "mantissa_bits"), [(1, 3), (12, 3), (4, 0), (4, 53)])
def test_a_type_that_float64_does_not_hold_is_refused(exponent_bits: int, mantissa_bits: int) -> None:
    with pytest.raises(OptionError, match="no float type"):
        FloatType(exponent_bits=exponent_bits, mantissa_bits=mantissa_bits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, torch.float64], ids=str)
def test_a_torch_dtype_that_is_not_simulated_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(OptionError, match="Expected dtype to be one of"):
        FloatType.of_torch(dtype)


def test_an_unknown_onnx_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(OptionError, match="Did you mean 'float8e4m3fn'"):
        FloatType.of_onnx("float8e4m3")


@pytest.mark.parametrize(("finite", "unsigned_zero"), [(True, True), (True, False), (False, True)])
def test_the_largest_number_of_an_unknown_type_is_refused(finite: bool, unsigned_zero: bool) -> None:
    unknown = FloatType(exponent_bits=3, mantissa_bits=3, finite=finite, unsigned_zero=unsigned_zero)
    with pytest.raises(QuantizerError, match="limited support"):
        _ = unknown.max


def test_types_are_values() -> None:
    assert FloatType(exponent_bits=5, mantissa_bits=10) == FLOAT16
    assert FloatType(exponent_bits=4, mantissa_bits=3) != FLOAT8_E4M3FN
