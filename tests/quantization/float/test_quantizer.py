"""FloatQuantizeDequantize: construction, calibration and what it returns."""

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization import AffineEncoding, DequantizedTensor, MinMaxEncodingAnalyzer
from fxquant.quantization.float import FloatEncoding, FloatQuantizeDequantize, FloatType, QuantizeDequantize
from fxquant.quantization.float.float_type import BFLOAT16, FLOAT8_E4M3FN, FLOAT8_E5M2, FLOAT16
from tests.quantization.float.types import EVERY_TORCH_TYPE
from tests.quantization.strategies import tensors

E4M3 = torch.float8_e4m3fn


def calibrated(tensor: torch.Tensor, **options: Any) -> FloatQuantizeDequantize:
    quantizer = FloatQuantizeDequantize(**({"dtype": E4M3} | options))
    with quantizer.compute_encodings():
        quantizer(tensor)
    return quantizer


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Neither"),
        ({"exponent_bits": 4}, "Neither"),
        ({"mantissa_bits": 4}, "Neither"),
        ({"dtype": E4M3, "exponent_bits": 4}, "mutually exclusive"),
        ({"dtype": E4M3, "finite": False}, "mutually exclusive"),
        ({"dtype": E4M3, "unsigned_zero": True}, "mutually exclusive"),
        ({"dtype": torch.float32}, "Expected dtype to be one of"),
        ({"exponent_bits": 1, "mantissa_bits": 4}, "no float type"),
        ({"exponent_bits": 10, "mantissa_bits": 5}, "does not reach"),
    ],
    ids=str,
)
def test_contradictory_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        FloatQuantizeDequantize(**options)
    assert isinstance(caught.value, ValueError)  # as in AIMET


@pytest.mark.parametrize(("finite", "unsigned_zero"), [(True, True), (True, False), (False, True)])
def test_an_unknown_type_is_refused_at_once_or_at_the_next_call(finite: bool, unsigned_zero: bool) -> None:
    with pytest.raises(RuntimeError, match="limited support"):
        FloatQuantizeDequantize(3, 3, finite, unsigned_zero)
    quantizer = FloatQuantizeDequantize(3, 3)
    quantizer.float_type = FloatType(
        exponent_bits=3, mantissa_bits=3, finite=finite, unsigned_zero=unsigned_zero
    )
    with pytest.raises(RuntimeError, match="limited support"):
        quantizer(torch.ones(3))


@pytest.mark.parametrize("analyzer_shape", [(3,), (4, 1)])
def test_an_analyzer_of_another_shape_is_refused(analyzer_shape: tuple[int, ...]) -> None:
    with pytest.raises(QuantizerError, match="incompatible"):
        FloatQuantizeDequantize(
            dtype=E4M3, shape=(4,), encoding_analyzer=MinMaxEncodingAnalyzer(analyzer_shape)
        )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"dtype": torch.float16}, "dtype=torch.float16"),
        ({"exponent_bits": 8, "mantissa_bits": 7}, "dtype=torch.bfloat16"),
        (
            {"exponent_bits": 3, "mantissa_bits": 4, "shape": (2, 1)},
            "exponent_bits=3, mantissa_bits=4, finite=False, unsigned_zero=False, shape=(2, 1)",
        ),
        (
            {"dtype": E4M3, "shape": [2, 4], "block_size": [1, -1]},
            "dtype=torch.float8_e4m3fn, shape=(2, 4), block_size=(1, -1)",
        ),
        ({"dtype": E4M3, "shape": 4}, "dtype=torch.float8_e4m3fn, shape=(4,)"),
    ],
    ids=str,
)
def test_it_prints_as_in_aimet(options: dict[str, Any], expected: str) -> None:
    assert repr(FloatQuantizeDequantize(**options)) == f"FloatQuantizeDequantize({expected})"
    assert repr(QuantizeDequantize(**options)) == f"QuantizeDequantize({expected})"


@EVERY_TORCH_TYPE
def test_only_types_below_16_bits_are_calibrated(float_type: FloatType) -> None:
    quantizer = FloatQuantizeDequantize(dtype=float_type.torch_dtype)
    assert (quantizer.encoding_analyzer is None) == (float_type.bitwidth == 16)
    assert quantizer.is_initialized()
    assert quantizer.maxval == float_type.max
    with quantizer.compute_encodings():
        quantizer(torch.tensor([-3.0, 2.0]))
    assert quantizer.maxval == (float_type.max if float_type.bitwidth == 16 else 3.0)


@EVERY_TORCH_TYPE
@given(tensor=tensors())
def test_without_calibration_it_is_a_saturating_cast(float_type: FloatType, tensor: torch.Tensor) -> None:
    output = FloatQuantizeDequantize(dtype=float_type.torch_dtype)(tensor)
    clamped = tensor.clamp(-float_type.max, float_type.max)
    assert torch.equal(output, clamped.to(float_type.torch_dtype).float())


def test_outputs_carry_their_encoding() -> None:
    quantizer = calibrated(torch.randn(16))
    output = quantizer(torch.randn(16))
    assert isinstance(output, DequantizedTensor)
    assert isinstance(output.encoding, FloatEncoding)
    assert output.encoding.producer is quantizer
    assert output.dequantize() is output
    assert torch.equal(output.quantize().dequantize(), output)
    quantizer.returns_encoding = False
    assert type(quantizer(torch.randn(16))) is torch.Tensor


@pytest.mark.parametrize(
    ("shape", "block_size", "expected"),
    [
        ((), None, 8.0),
        ((2, 1), None, [[8.0], [4.0]]),
        ((4,), None, [1.0, 4.0, 8.0, 2.0]),
        ((2, 2), (1, 2), [[2.0, 8.0], [4.0, 2.0]]),
        ((1, 2), (-1, -1), [[4.0, 8.0]]),
    ],
    ids=["tensor", "rows", "columns", "blocks", "open-blocks"],
)
def test_calibration_finds_the_largest_magnitude_of_what_a_scale_serves(
    shape: tuple[int, ...], block_size: tuple[int, ...] | None, expected: object
) -> None:
    tensor = torch.tensor([[1.0, -2.0, -8.0, 0.5], [0.5, 4.0, 1.0, -2.0]])
    quantizer = calibrated(tensor, shape=shape, block_size=block_size)
    assert quantizer.maxval.tolist() == expected
    assert torch.equal(quantizer.get_scale(), quantizer.maxval / FLOAT8_E4M3FN.max)


def test_calibration_sees_every_batch_and_answers_with_the_range_of_each() -> None:
    small, large = torch.randn(64), torch.randn(64) * 100
    quantizer = FloatQuantizeDequantize(dtype=E4M3)
    with quantizer.compute_encodings():
        found = quantizer(large), quantizer(small)
    assert quantizer.maxval == large.abs().max()
    assert torch.equal(found[0], calibrated(large)(large))
    assert torch.equal(found[1], calibrated(small)(small))


def test_a_range_that_may_not_be_overwritten_stays() -> None:
    quantizer = calibrated(torch.ones(3))
    quantizer.allow_overwrite(maxval=False)
    with quantizer.compute_encodings():
        quantizer(torch.full((3,), 9.0))
    quantizer.calibrate(torch.full((3,), 9.0))
    assert quantizer.maxval == 1.0
    assert not quantizer.is_overwrite_allowed("maxval")


def test_an_interrupted_calibration_writes_nothing() -> None:
    quantizer = calibrated(torch.ones(2, 3), shape=(2, 1))
    with pytest.raises(QuantizerError), quantizer.compute_encodings():
        [quantizer(batch) for batch in (torch.full((2, 3), 9.0), torch.ones(3, 3))]
    assert quantizer.maxval.eq(1).all()


def test_a_16_bit_type_with_an_analyzer_is_calibrated() -> None:
    analyzer = MinMaxEncodingAnalyzer((2, 1))
    tensor = torch.tensor([[1.0, 2.0], [-4.0, 3.0]])
    quantizer = calibrated(tensor, dtype=torch.float16, encoding_analyzer=analyzer)
    assert quantizer.shape == (2, 1)
    assert quantizer.maxval.tolist() == [[2.0], [4.0]]
    assert torch.allclose(quantizer(tensor), tensor, rtol=2.0**-11)  # half a unit in the last place


def test_all_zeros_give_zeros() -> None:
    quantizer = calibrated(torch.zeros(8))
    assert quantizer(torch.zeros(8)).eq(0).all()
    quantizer.maxval = torch.zeros(())
    assert quantizer(torch.zeros(8)).eq(0).all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.int64], ids=str)
def test_integers_and_bools_pass_through(dtype: torch.dtype) -> None:
    quantizer, tensor = FloatQuantizeDequantize(dtype=E4M3), torch.ones(4).to(dtype)
    with quantizer.compute_encodings():
        assert quantizer(tensor) is tensor
    assert quantizer(tensor) is tensor
    assert quantizer.maxval == FLOAT8_E4M3FN.max


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_outputs_have_the_type_of_inputs(dtype: torch.dtype) -> None:
    tensor = torch.randn(8, 8).to(dtype)
    quantizer = calibrated(tensor, shape=(8, 1))
    assert quantizer(tensor).dtype == dtype
    assert quantizer.maxval.dtype == torch.float32


def test_an_empty_tensor_stays_empty_and_is_not_observed() -> None:
    quantizer = FloatQuantizeDequantize(dtype=E4M3)
    with quantizer.compute_encodings():
        assert quantizer(torch.empty(0, 3)).shape == (0, 3)
    assert quantizer.maxval == FLOAT8_E4M3FN.max


@pytest.mark.parametrize(
    ("value", "message"), [(65504.0, "Extreme values"), (torch.inf, "Infinite or NaN values")]
)
def test_extreme_inputs_are_warned_of(value: float, message: str) -> None:
    quantizer = FloatQuantizeDequantize(dtype=torch.float16, encoding_analyzer=MinMaxEncodingAnalyzer(()))
    with pytest.warns(UserWarning, match=message), quantizer.compute_encodings():
        quantizer(torch.tensor([value, 1.0], dtype=torch.float16))


def test_ordinary_inputs_are_not_warned_of() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrated(torch.randn(8))


def test_the_type_can_be_changed_and_an_untouched_scale_stays_1() -> None:
    quantizer = FloatQuantizeDequantize(dtype=torch.bfloat16)
    assert quantizer.is_bfloat16()
    quantizer.exponent_bits, quantizer.mantissa_bits = 5, 10
    assert quantizer.is_float16()
    assert (quantizer.float_type, quantizer.bitwidth) == (FLOAT16, 16)
    assert (quantizer.maxval.item(), quantizer.get_scale().item()) == (FLOAT16.max, 1.0)


def test_a_calibrated_range_outlives_a_change_of_type() -> None:
    quantizer = calibrated(torch.tensor([3.0]))
    quantizer.float_type = FLOAT8_E5M2
    assert quantizer.maxval == 3.0
    assert quantizer.get_scale() == torch.tensor(3.0) / FLOAT8_E5M2.max


def test_legacy_entries_tell_the_bits_and_set_float16() -> None:
    quantizer = calibrated(torch.tensor([3.0]))
    assert quantizer.get_legacy_encodings() == [{"bitwidth": 8, "dtype": "float"}]
    quantizer.set_legacy_encodings([{"bitwidth": 16, "dtype": "float"}])
    assert (quantizer.float_type, quantizer.get_scale().item()) == (FLOAT16, 1.0)
    with pytest.raises(RuntimeError, match="16-bit"):
        quantizer.set_legacy_encodings([{"bitwidth": 8, "dtype": "float"}])


@pytest.mark.parametrize("shape", [(), (8, 1), (8, 2)], ids=str)
def test_a_quantizer_of_an_encoding_does_the_same(shape: tuple[int, ...]) -> None:
    tensor = torch.randn(8, 64)
    quantizer = calibrated(tensor, shape=shape, block_size=(1, 32) if shape == (8, 2) else None)
    twin = FloatQuantizeDequantize.from_encodings(quantizer.get_encodings())
    assert repr(twin) == repr(quantizer)
    # maxval = scale * max and scale = maxval / max cost half an eps each; 2^-3 is the grid's own eps
    assert torch.allclose(twin.get_scale(), quantizer.get_scale(), rtol=2.0**-23, atol=0)
    assert torch.allclose(twin(tensor), quantizer(tensor), rtol=2.0**-3)


def test_a_quantizer_of_a_plain_bfloat16_encoding_has_scale_1() -> None:
    quantizer = FloatQuantizeDequantize.from_encodings(FloatEncoding(7, 8, False, False, torch.ones(())))
    assert (quantizer.float_type, quantizer.get_scale().item()) == (BFLOAT16, 1.0)


def test_an_encoding_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="FloatEncoding"):
        FloatQuantizeDequantize.from_encodings(AffineEncoding(torch.ones(()), torch.zeros(()), 8))  # type: ignore[arg-type]  # what is tested


def test_a_scale_that_does_not_fit_the_tensor_is_refused() -> None:
    with pytest.raises(QuantizerError, match="cannot be expanded"):
        calibrated(torch.randn(4, 4), shape=(4, 1))(torch.randn(3, 4))


def test_the_gradient_passes_where_the_type_reaches() -> None:
    quantizer = calibrated(torch.tensor([-2.0, 2.0]))
    tensor = torch.tensor([-3.0, -2.0, 0.3, 2.0, 2.1], requires_grad=True)
    quantizer(tensor).sum().backward()
    assert tensor.grad is not None
    assert tensor.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
    assert list(quantizer.parameters()) == []
