"""The laws of the arithmetic, and the float types it computes in."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxquant.errors import QuantizerError
from fxquant.quantization import AffineEncoding
from fxquant.quantization.functional import (
    compute_dtype,
    dequantize,
    holds_grid,
    quantize,
    quantize_dequantize,
    quantize_to_integers,
    scale_and_offset,
    smallest_scale,
    symmetric_offset,
)
from tests.quantization.strategies import (
    ANY_FLOAT,
    LAYOUTS,
    channel_encodings,
    encodings,
    matrices,
    ranges,
    shaped_encodings,
    tensors,
    tensors_of,
)

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
GRANULARITIES = pytest.mark.parametrize(
    ("scale_shape", "block_size"),
    [((), None), ((4, 1, 1), None), ((2, 1, 3), (2, -1, 1)), ((1, 3), (5, 1))],
    ids=["tensor", "channel", "block", "block-broadcast"],
)
BITS = 32
CHANNELS = 3
EPS = torch.finfo(torch.float32).eps
SCALE, OFFSET = torch.tensor(0.1), torch.tensor(-3.0)


@settings(max_examples=50)
@DTYPES
@given(encoding=encodings(BITS), tensor=tensors())
def test_the_error_in_range_is_at_most_half_a_step(
    dtype: torch.dtype, encoding: AffineEncoding, tensor: torch.Tensor
) -> None:
    # With n steps, values are at most n * scale. Casting the scale to the computing type, dividing by it and
    # multiplying with it cost half an eps of that type each, the clipping that a smaller scale brings another
    # half; casting the result and the ends of the range to the tensor's type cost half an eps of that one
    # each. Twice the sum leaves room for products of these errors.
    n = encoding.num_steps
    eps = torch.finfo(compute_dtype(dtype, n)).eps + torch.finfo(dtype).eps / 2
    exact = encoding.to(torch.float64)
    x = tensor.to(dtype).clamp(exact.min.item(), exact.max.item())
    error = encoding.quantize_dequantize(x).double() - x.double()
    assert (error.abs() <= encoding.scale.double() * (0.5 + 4 * n * eps)).all()


@DTYPES
@given(encoding=encodings(BITS), tensor=tensors(ANY_FLOAT))
def test_quantization_is_monotone(dtype: torch.dtype, encoding: AffineEncoding, tensor: torch.Tensor) -> None:
    ordered = encoding.quantize_dequantize(tensor.to(dtype).flatten().sort().values)
    assert (ordered[1:] >= ordered[:-1]).all()


@DTYPES
@given(encoding=encodings(BITS))
def test_zero_is_exact(dtype: torch.dtype, encoding: AffineEncoding) -> None:
    assert encoding.quantize_dequantize(torch.zeros(2, dtype=dtype)).tolist() == [0.0, 0.0]


# A grid value stays where it is when casting it costs less than half a step: n * eps / 2 < 1/2. That is
# 10 bits for float16 (eps 2^-10) and 7 for bfloat16 (eps 2^-7).
@pytest.mark.parametrize(
    ("dtype", "bitwidth"),
    [(torch.float32, 16), (torch.float64, 16), (torch.float16, 10), (torch.bfloat16, 7)],
    ids=["float32", "float64", "float16", "bfloat16"],
)
@settings(max_examples=50)
@given(data=st.data(), tensor=tensors())
def test_quantization_is_idempotent_on_the_grid(
    dtype: torch.dtype, bitwidth: int, data: st.DataObject, tensor: torch.Tensor
) -> None:
    encoding = data.draw(encodings(bitwidth))
    once = encoding.quantize_dequantize(tensor.to(dtype))
    assert torch.equal(encoding.quantize_dequantize(once), once)


@DTYPES
@given(encoding=channel_encodings(CHANNELS, BITS), tensor=matrices(CHANNELS))
def test_per_channel_equals_stacked_per_tensor(
    dtype: torch.dtype, encoding: AffineEncoding, tensor: torch.Tensor
) -> None:
    grid = encoding.qmin, encoding.qmax
    parts = zip(tensor.to(dtype), encoding.scale[:, 0], encoding.offset[:, 0], strict=True)
    stacked = torch.stack([quantize_dequantize(*part, *grid) for part in parts])
    assert torch.equal(encoding.quantize_dequantize(tensor.to(dtype)), stacked)


@DTYPES
@settings(max_examples=25)
@pytest.mark.parametrize("block_size", [(2, 3), (-1, 3), (2, -1), (-1, -1), (-1,)], ids=str)
@given(data=st.data(), tensor=tensors_of((4, 6)))
def test_each_block_is_quantized_as_a_tensor_of_its_own(
    dtype: torch.dtype, block_size: tuple[int, ...], data: st.DataObject, tensor: torch.Tensor
) -> None:
    tensor = tensor[-2 * len(block_size) :].to(dtype)  # one size given: the axis before it has blocks of one
    encoding = data.draw(shaped_encodings((2, 2), BITS, block_size))
    grid = encoding.qmin, encoding.qmax
    found = encoding.quantize_dequantize(tensor)
    rows = tensor.shape[0] // 2
    for row, column in np.ndindex(2, 2):
        block = np.s_[rows * row : rows * (row + 1), 3 * column : 3 * (column + 1)]
        parameters = encoding.scale[row, column], encoding.offset[row, column]
        assert torch.equal(found[block], quantize_dequantize(tensor[block], *parameters, *grid))


# The reference is ONNX QuantizeLinear in numpy: saturate(round(x / y_scale) + y_zero_point), half to even, in
# the type that the grid is computed in.
@pytest.mark.parametrize(
    ("dtype", "bitwidth", "computed"),
    [
        (torch.float32, 16, np.float32),
        (torch.float32, 21, np.float32),
        (torch.float64, BITS, np.float64),
        (torch.float16, 8, np.float16),
        (torch.bfloat16, 8, np.float32),
    ],
    ids=["float32", "float32-21-bits", "float64", "float16", "bfloat16"],
)
@settings(max_examples=50)
@given(data=st.data(), tensor=tensors(ANY_FLOAT))
def test_codes_are_those_of_the_formula(
    dtype: torch.dtype, bitwidth: int, computed: type, data: st.DataObject, tensor: torch.Tensor
) -> None:
    encoding, x = data.draw(encodings(bitwidth)), tensor.to(dtype)
    with np.errstate(over="ignore"):
        ratio = x.to(torch.float64).numpy().astype(computed) / encoding.scale.numpy().astype(computed)
    expected = np.clip(
        np.rint(ratio) - encoding.offset.numpy().astype(computed), encoding.qmin, encoding.qmax
    )
    codes = quantize_to_integers(
        x, encoding.scale, encoding.offset, encoding.qmin, encoding.qmax, torch.int64
    )
    assert np.array_equal(codes.numpy(), expected.astype(np.int64))


@pytest.mark.parametrize("bitwidth", [22, 24, 32])
def test_codes_of_a_fine_grid_are_computed_in_float64(bitwidth: int) -> None:
    x, scale = torch.randn(10_000), torch.tensor(6.0 / 2**bitwidth)
    qmin, qmax = -(2 ** (bitwidth - 1)), 2 ** (bitwidth - 1) - 1
    expected = np.clip(np.rint(x.double().numpy() / scale.double().numpy()), qmin, qmax)
    codes = quantize_to_integers(x, scale, torch.zeros(()), qmin, qmax, torch.int64)
    assert np.array_equal(codes.numpy(), expected.astype(np.int64))


@DTYPES
def test_many_random_values_do_not_depend_on_the_granularity(dtype: torch.dtype) -> None:
    x, scale = torch.randn(1, 100_000).to(dtype), torch.tensor(0.0237)  # a scale that no half type holds
    per_channel = quantize_dequantize(x, scale.reshape(1, 1), OFFSET.reshape(1, 1), -128, 127)
    assert torch.equal(per_channel, quantize_dequantize(x, scale, OFFSET, -128, 127))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(encoding=encodings(), tensor=tensors(ANY_FLOAT))
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


@pytest.mark.parametrize(("shape", "scale_shape"), [((0, 6), (1, 1)), ((4, 0), (4, 1)), ((0,), ())], ids=str)
def test_an_empty_tensor_stays_empty(shape: tuple[int, ...], scale_shape: tuple[int, ...]) -> None:
    scale = SCALE.expand(scale_shape)
    assert quantize_dequantize(torch.ones(shape), scale, scale, 0, 255).shape == shape


@pytest.mark.parametrize(
    ("shape", "scale_shape", "block_size"),
    [((0, 6), (1, 2), (-1, 3)), ((4, 0), (1, 1), (-1, -1))],
    ids=str,
)
def test_an_empty_tensor_in_blocks_stays_empty(
    shape: tuple[int, ...], scale_shape: tuple[int, ...], block_size: tuple[int, ...]
) -> None:
    scale = SCALE.expand(scale_shape)
    assert quantize_dequantize(torch.ones(shape), scale, scale, 0, 255, block_size).shape == shape


@GRANULARITIES
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("trained", [False, True], ids=["inference", "training"])
def test_memory_layout_does_not_change_values(
    layout: str, scale_shape: tuple[int, ...], block_size: tuple[int, ...] | None, trained: bool
) -> None:
    x = LAYOUTS[layout](torch.randn(2, 4, 5, 3))
    scale = torch.rand(scale_shape) + 0.1
    parameters = scale.requires_grad_(trained), torch.full_like(scale, -3.0), 0, 15, block_size
    expected = quantize_dequantize(x.contiguous(), *parameters)
    assert torch.equal(quantize_dequantize(x, *parameters), expected)
    codes = quantize(x, *parameters)
    assert torch.equal(codes, quantize(x.contiguous(), *parameters))
    assert torch.equal(dequantize(codes, *parameters[:2], block_size), expected)


@pytest.mark.parametrize("shape", [(), (3, 1, 1)], ids=["per-tensor", "per-channel"])
def test_channels_last_is_kept(shape: tuple[int, ...]) -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    output = quantize_dequantize(x, SCALE.expand(shape), OFFSET.expand(shape), 0, 255)
    assert output.is_contiguous(memory_format=torch.channels_last)


@DTYPES
@pytest.mark.parametrize("trained", [False, True], ids=["inference", "training"])
def test_infinities_go_to_the_ends_and_nan_stays(dtype: torch.dtype, trained: bool) -> None:
    x = torch.tensor([float("inf"), float("-inf"), float("nan")], dtype=dtype)
    scale = torch.tensor(0.5, requires_grad=trained)
    found = quantize_dequantize(x, scale, torch.tensor(-8.0), 0, 15)
    assert found[:2].tolist() == [3.5, -4.0]
    assert bool(found[2].isnan())


@pytest.mark.parametrize("value", [1e-45, -1e-45, 1e-40, -0.0], ids=str)
def test_denormals_are_zero(value: float) -> None:
    assert quantize_dequantize(torch.tensor(value), SCALE, OFFSET, 0, 255).item() == 0.0


def test_the_largest_floats_go_to_the_ends() -> None:
    largest = torch.finfo(torch.float32).max
    x, scale = torch.tensor([largest, -largest]), torch.tensor(1.0)
    assert quantize(x, scale, torch.tensor(0.0), -128, 127).tolist() == [127, -128]


@pytest.mark.parametrize("qmin", [-2, 0], ids=["signed", "unsigned"])
@given(bounds=ranges(), tensor=tensors())
def test_a_shifted_grid_is_the_grid_half_a_step_further(
    qmin: int, bounds: tuple[float, float], tensor: torch.Tensor
) -> None:
    scale, offset = scale_and_offset(*map(torch.tensor, bounds), qmin, qmin + 3, symmetric=False)
    found = quantize_dequantize(tensor, scale, offset, qmin, qmin + 3, zero_point_shift=0.5)
    nearest = (tensor / scale - 0.5).round().clamp(offset + qmin, offset + qmin + 3)
    assert torch.equal(found, (nearest + 0.5) * scale)


def test_the_input_is_not_written_to() -> None:
    x = torch.randn(10)
    before = x.clone()
    quantize_dequantize(x, SCALE, OFFSET, 0, 255)
    assert torch.equal(x, before)


@pytest.mark.parametrize("tensor", [torch.arange(3), torch.tensor([True])], ids=["integer", "bool"])
def test_tensors_that_are_not_float_pass_through(tensor: torch.Tensor) -> None:
    assert quantize_dequantize(tensor, SCALE, OFFSET, 0, 255) is tensor


@pytest.mark.parametrize(
    ("codes", "scale", "expected"),
    [
        (torch.int8, torch.float32, torch.float32),
        (torch.uint8, torch.float16, torch.float16),
        (torch.float32, torch.float64, torch.float32),
        (torch.bfloat16, torch.float32, torch.bfloat16),
    ],
    ids=["int8", "uint8-half-scale", "float32-codes", "bfloat16-codes"],
)
def test_real_values_have_the_type_of_float_codes_or_else_of_the_scale(
    codes: torch.dtype, scale: torch.dtype, expected: torch.dtype
) -> None:
    real = dequantize(torch.tensor([4], dtype=codes), torch.tensor(0.5, dtype=scale), torch.tensor(-2.0))
    assert (real.tolist(), real.dtype) == ([1.0], expected)


@pytest.mark.parametrize("function", [quantize, quantize_dequantize], ids=["quantize", "quantize_dequantize"])
def test_a_scale_that_does_not_fit_is_refused(function: object) -> None:
    with pytest.raises(QuantizerError, match="cannot be expanded"):
        function(torch.ones(4), torch.ones(3), torch.zeros(3), 0, 255)  # type: ignore[operator]
    with pytest.raises(QuantizerError, match="must equal the corresponding scale dimension size"):
        function(torch.ones(4), torch.ones(3), torch.zeros(3), 0, 255, (2,))  # type: ignore[operator]


def test_codes_that_the_scale_does_not_fit_are_refused() -> None:
    with pytest.raises(QuantizerError, match="cannot be expanded"):
        dequantize(torch.ones(4), torch.ones(3), torch.zeros(3))


def test_integers_have_no_codes() -> None:
    with pytest.raises(QuantizerError):
        quantize(torch.arange(3), SCALE, OFFSET, 0, 255)


@pytest.mark.parametrize(
    ("dtype", "qmin", "qmax", "expected"),
    [
        (torch.float32, 0, 2**24, True),
        (torch.float32, 0, 2**24 + 2, False),  # its neighbour 2^24 + 1 is none
        (torch.float32, -(2**24), 0, True),
        (torch.float16, 0, 2**11 - 1, True),
        (torch.float16, 0, 2**12 - 1, False),
        (torch.bfloat16, -128, 127, True),
        (torch.bfloat16, -256, 255, True),
        (torch.bfloat16, -512, 511, False),
        (torch.float16, 0, 70_000, False),
    ],
    ids=str,
)
def test_a_float_type_holds_a_grid_whose_codes_it_tells_apart(
    dtype: torch.dtype, qmin: int, qmax: int, expected: bool
) -> None:
    assert holds_grid(dtype, qmin, qmax) is expected


def test_codes_that_a_type_cannot_hold_are_refused() -> None:
    with pytest.raises(
        QuantizerError, match=r"torch\.bfloat16 is unable to represent quantized output of range"
    ):
        quantize(torch.ones(2, dtype=torch.bfloat16), SCALE, OFFSET, 0, 1023)


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


@pytest.mark.parametrize("qmax", [1, 3, 4, 7, 255, 65535])
def test_a_symmetric_offset_rounds_half_to_even(qmax: int) -> None:
    assert symmetric_offset(0, qmax) == -float(np.rint(qmax / 2))


@given(bounds=ranges(), bitwidth=st.integers(2, 16), signed=st.booleans())
def test_the_grid_of_a_range_covers_it_but_for_half_a_step(
    bounds: tuple[float, float], bitwidth: int, signed: bool
) -> None:
    qmin = -(2 ** (bitwidth - 1)) if signed else 0
    qmax = qmin + 2**bitwidth - 1
    scale, offset = scale_and_offset(*map(torch.tensor, bounds), qmin, qmax, symmetric=False)
    ends = (offset + torch.tensor([qmin, qmax])) * scale
    # half a step, and the rounding of the scale, n steps long
    assert (ends - torch.tensor(bounds)).abs().max() <= scale * (0.5 + 2 * 2**bitwidth * EPS)


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("bounds", [(0.0, 0.0), (1e-30, 1e-30), (0.0, 1e-12)], ids=str)
def test_a_range_without_width_gets_the_smallest_scale(bounds: tuple[float, float], symmetric: bool) -> None:
    scale, _ = scale_and_offset(*map(torch.tensor, bounds), 0, 255, symmetric)
    assert scale.item() == smallest_scale(255)


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
