"""The laws of the arithmetic, its gradients, and the float types it computes in."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxquant.quantization import AffineEncoding
from fxquant.quantization.functional import (
    compute_dtype,
    dequantize,
    quantize,
    quantize_dequantize,
    scale_and_offset,
    smallest_scale,
)
from tests.quantization.strategies import channel_encodings, encodings, matrices, tensors

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
CHANNELS = 3
SCALE, OFFSET = torch.tensor(0.1), torch.tensor(-3.0)


@DTYPES
@given(encoding=encodings(), tensor=tensors())
def test_the_error_in_range_is_at_most_half_a_step(
    dtype: torch.dtype, encoding: AffineEncoding, tensor: torch.Tensor
) -> None:
    # With n steps, values are at most n * scale. Casting the scale to the computing type, dividing by it and
    # multiplying with it cost half an eps of that type each, the clipping that a smaller scale brings another
    # half; casting the result and the ends of the range to the tensor's type cost half an eps of that one
    # each. Twice the sum leaves room for products of these errors.
    n = encoding.num_steps
    eps = torch.finfo(compute_dtype(dtype, n)).eps + torch.finfo(dtype).eps / 2
    x = tensor.to(dtype).clamp(encoding.min.item(), encoding.max.item())
    error = encoding.quantize_dequantize(x).double() - x.double()
    assert (error.abs() <= encoding.scale.double() * (0.5 + 4 * n * eps)).all()


@DTYPES
@given(encoding=encodings(), tensor=tensors())
def test_quantization_is_monotone(dtype: torch.dtype, encoding: AffineEncoding, tensor: torch.Tensor) -> None:
    ordered = tensor.to(dtype).flatten().sort().values
    assert (encoding.quantize_dequantize(ordered).diff() >= 0).all()


@DTYPES
@given(encoding=encodings())
def test_zero_is_exact(dtype: torch.dtype, encoding: AffineEncoding) -> None:
    assert encoding.quantize_dequantize(torch.zeros(2, dtype=dtype)).tolist() == [0.0, 0.0]


# A grid value stays where it is when casting it costs less than half a step: n * eps / 2 < 1/2. That is
# 10 bits for float16 (eps 2^-10) and 7 for bfloat16 (eps 2^-7).
@pytest.mark.parametrize(
    ("dtype", "bitwidth"),
    [(torch.float32, 16), (torch.float64, 16), (torch.float16, 10), (torch.bfloat16, 7)],
    ids=["float32", "float64", "float16", "bfloat16"],
)
@given(data=st.data(), tensor=tensors())
def test_quantization_is_idempotent_on_the_grid(
    dtype: torch.dtype, bitwidth: int, data: st.DataObject, tensor: torch.Tensor
) -> None:
    encoding = data.draw(encodings(bitwidth))
    once = encoding.quantize_dequantize(tensor.to(dtype))
    assert torch.equal(encoding.quantize_dequantize(once), once)


@DTYPES
@given(encoding=channel_encodings(CHANNELS), tensor=matrices(CHANNELS))
def test_per_channel_equals_stacked_per_tensor(
    dtype: torch.dtype, encoding: AffineEncoding, tensor: torch.Tensor
) -> None:
    grid = encoding.qmin, encoding.qmax
    parts = zip(tensor.to(dtype), encoding.scale[:, 0], encoding.offset[:, 0], strict=True)
    stacked = torch.stack([quantize_dequantize(*part, *grid) for part in parts])
    assert torch.equal(encoding.quantize_dequantize(tensor.to(dtype)), stacked)


@DTYPES
def test_many_random_values_do_not_depend_on_the_granularity(dtype: torch.dtype) -> None:
    x, scale = torch.randn(1, 100_000).to(dtype), torch.tensor(0.0237)  # a scale that no half type holds
    per_channel = quantize_dequantize(x, scale.reshape(1, 1), OFFSET.reshape(1, 1), -128, 127)
    assert torch.equal(per_channel, quantize_dequantize(x, scale, OFFSET, -128, 127))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(encoding=encodings(), tensor=tensors())
def test_quantize_dequantize_is_dequantize_of_quantize(
    dtype: torch.dtype, encoding: AffineEncoding, tensor: torch.Tensor
) -> None:
    scale, offset, x = encoding.scale.to(dtype), encoding.offset.to(dtype), tensor.to(dtype)
    grid = encoding.qmin, encoding.qmax
    codes = quantize(x, scale, offset, *grid)
    assert torch.equal(dequantize(codes, scale, offset), quantize_dequantize(x, scale, offset, *grid))


def test_ties_go_to_the_even_code() -> None:
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5])
    assert quantize(x, torch.tensor(1.0), torch.tensor(0.0), -128, 127).tolist() == [0, 2, 2, 0, -2]


def test_the_offset_is_subtracted_after_rounding() -> None:
    # 2.5 rounds to 2, and 2 - (-1) is 3; rounding 2.5 + 1 instead would give 4.
    assert quantize(torch.tensor(2.5), torch.tensor(1.0), torch.tensor(-1.0), 0, 255).item() == 3


@DTYPES
@pytest.mark.parametrize("shape", [(0,), (0, 3), (), (1,), (1, 1, 1)], ids=str)
def test_empty_and_one_element_tensors_keep_shape_and_type(
    dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    output = quantize_dequantize(torch.ones(shape, dtype=dtype), SCALE, OFFSET, 0, 255)
    assert (output.shape, output.dtype) == (shape, dtype)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.transpose(1, 3),
        lambda x: x[:, ::2, 1:],
        lambda x: x[:1].expand(5, -1, -1, -1),
        lambda x: x.to(memory_format=torch.channels_last),
    ],
    ids=["transposed", "strided", "expanded", "channels-last"],
)
def test_memory_layout_does_not_change_values(view: object) -> None:
    x = view(torch.randn(2, 4, 4, 4))  # type: ignore[operator]
    laid_out = quantize_dequantize(x, SCALE, OFFSET, 0, 255)
    assert torch.equal(laid_out, quantize_dequantize(x.contiguous(), SCALE, OFFSET, 0, 255))


@pytest.mark.parametrize("shape", [(), (3, 1, 1)], ids=["per-tensor", "per-channel"])
def test_channels_last_is_kept(shape: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    output = quantize_dequantize(x, SCALE.expand(shape), OFFSET.expand(shape), 0, 255)
    assert output.is_contiguous(memory_format=torch.channels_last)


def test_the_input_is_not_written_to() -> None:
    x = torch.randn(10)
    before = x.clone()
    quantize_dequantize(x, SCALE, OFFSET, 0, 255)
    assert torch.equal(x, before)


@pytest.mark.parametrize("tensor", [torch.arange(3), torch.tensor([True])], ids=["integer", "bool"])
def test_tensors_that_are_not_float_pass_through(tensor: torch.Tensor) -> None:
    assert quantize_dequantize(tensor, SCALE, OFFSET, 0, 255) is tensor


@pytest.mark.parametrize(
    ("dtype", "num_steps", "expected"),
    [
        (torch.float16, 255, torch.float16),
        (torch.float16, 1023, torch.float32),
        (torch.bfloat16, 15, torch.bfloat16),
        (torch.bfloat16, 255, torch.float32),
        (torch.float32, 2**16 - 1, torch.float32),
        (torch.float32, 2**32 - 1, torch.float64),
        (torch.float64, 255, torch.float64),
    ],
    ids=str,
)
def test_a_grid_too_fine_for_a_type_is_computed_in_a_wider_one(
    dtype: torch.dtype, num_steps: int, expected: torch.dtype
) -> None:
    assert compute_dtype(dtype, num_steps) is expected


@pytest.mark.parametrize(
    ("qmin", "qmax", "offset"),
    [(-128, 127, 0.0), (0, 255, -128.0), (-127, 127, 0.0), (-8, 7, 0.0), (0, 65535, -32768.0)],
    ids=["int8", "uint8", "narrow-int8", "int4", "uint16"],
)
def test_a_symmetric_offset_is_a_constant_of_the_grid(qmin: int, qmax: int, offset: float) -> None:
    minimum, maximum = torch.tensor(-1.0), torch.tensor(2.0)
    assert scale_and_offset(minimum, maximum, qmin, qmax, symmetric=True)[1].item() == offset


@pytest.mark.parametrize(
    ("low", "high", "offset"), [(0.5, 1.0, 0.0), (-2.0, -1.0, -255.0)], ids=["positive", "negative"]
)
def test_an_asymmetric_offset_keeps_zero_on_the_grid(low: float, high: float, offset: float) -> None:
    assert scale_and_offset(torch.tensor(low), torch.tensor(high), 0, 255, False)[1].item() == offset


@pytest.mark.parametrize(
    ("bitwidth", "expected"),
    [(4, 1.1920929e-07), (8, 1.1920929e-07), (16, 1.1920929e-07), (32, 0.01 / (2**32 - 1))],
    ids=["4-bit", "8-bit", "16-bit", "32-bit"],
)
def test_the_smallest_scale_shrinks_on_very_fine_grids(bitwidth: int, expected: float) -> None:
    assert smallest_scale(2**bitwidth - 1) == pytest.approx(expected, rel=1e-7)
