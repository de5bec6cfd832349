"""The arithmetic of scaled float grids: laws, blocks, types and gradients."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxquant.errors import QuantizerError
from fxquant.quantization.float import FloatType
from fxquant.quantization.float.float_type import (
    BFLOAT16,
    FLOAT4_E2M1,
    FLOAT8_E4M3FN,
    FLOAT16,
)
from fxquant.quantization.float.functional import dequantize, quantize, quantize_dequantize
from tests.quantization.float.types import ANY_SMALL_TYPE, ANY_TYPE, EVERY_SMALL_TYPE, nearest
from tests.quantization.strategies import LAYOUTS, Layout, matrices, tensors, tensors_of

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str
)
SCALES = st.floats(2.0**-8, 2.0**8, width=32).map(torch.tensor)
CHANNELS = 3
CHANNEL_SCALES = st.lists(SCALES, min_size=CHANNELS, max_size=CHANNELS)

Function = Callable[..., torch.Tensor]


@given(float_type=ANY_SMALL_TYPE, tensor=tensors(), scale=SCALES)
def test_codes_are_the_nearest_numbers_to_the_ratio(
    float_type: FloatType, tensor: torch.Tensor, scale: torch.Tensor
) -> None:
    codes = quantize(tensor, scale, float_type)
    assert torch.equal(codes.double(), nearest(tensor / scale, float_type))
    assert torch.equal(quantize_dequantize(tensor, scale, float_type), dequantize(codes, scale))


@given(float_type=ANY_TYPE, tensor=tensors(), exponent=st.integers(-8, 8))
def test_quantizing_twice_is_quantizing_once(
    float_type: FloatType, tensor: torch.Tensor, exponent: int
) -> None:
    scale = torch.tensor(2.0**exponent)  # powers of two divide and multiply exactly
    once = quantize_dequantize(tensor, scale, float_type)
    assert torch.equal(quantize_dequantize(once, scale, float_type), once)


@given(float_type=ANY_TYPE, tensor=tensors(), scale=SCALES)
def test_quantizing_keeps_the_order_and_zero(
    float_type: FloatType, tensor: torch.Tensor, scale: torch.Tensor
) -> None:
    values = quantize_dequantize(tensor.flatten().sort().values, scale, float_type)
    assert (values[1:] >= values[:-1]).all()
    assert quantize_dequantize(torch.zeros(2), scale, float_type).tolist() == [0.0, 0.0]


@given(
    float_type=ANY_TYPE,
    tensor=matrices(CHANNELS),
    scales=st.lists(SCALES, min_size=CHANNELS, max_size=CHANNELS),
)
def test_per_channel_is_stacked_per_tensor(
    float_type: FloatType, tensor: torch.Tensor, scales: list[torch.Tensor]
) -> None:
    rows = [quantize_dequantize(row, scale, float_type) for row, scale in zip(tensor, scales, strict=True)]
    together = quantize_dequantize(tensor, torch.stack(scales).reshape(-1, 1), float_type)
    assert torch.equal(together, torch.stack(rows))


@given(float_type=ANY_TYPE, tensor=tensors_of((4, 6)), scales=st.lists(SCALES, min_size=8, max_size=8))
def test_blocks_are_channels_of_the_reshaped_tensor(
    float_type: FloatType, tensor: torch.Tensor, scales: list[torch.Tensor]
) -> None:
    scale = torch.stack(scales)
    blocks = quantize_dequantize(tensor, scale.reshape(4, 2), float_type, (1, 3))
    channels = quantize_dequantize(tensor.reshape(8, 3), scale.reshape(8, 1), float_type)
    assert torch.equal(blocks, channels.reshape(4, 6))
    codes = quantize(tensor, scale.reshape(4, 2), float_type, (1, 3))
    assert torch.equal(dequantize(codes, scale.reshape(4, 2), (-1, -1)), blocks)


@given(float_type=ANY_TYPE, tensor=tensors())
def test_a_unit_scale_changes_nothing_but_the_work(float_type: FloatType, tensor: torch.Tensor) -> None:
    scale = torch.ones(())
    fast = quantize_dequantize(tensor, scale, float_type, has_unit_scale=True)
    assert torch.equal(fast, quantize_dequantize(tensor, scale, float_type))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("shape", [(), (4, 1, 1), (8, 4, 64, 64)], ids=str)
@pytest.mark.parametrize("needs_grad", [False, True], ids=["inference", "training"])
def test_a_large_tensor_gives_what_its_elements_give(
    layout: Layout, shape: tuple[int, ...], needs_grad: bool
) -> None:
    tensor = layout(torch.randn(8, 4, 128, 128)).requires_grad_(needs_grad)  # more than one piece
    scale = torch.rand(shape) + 0.01
    block_size = (1, 1, 2, 2) if len(shape) == 4 else None
    repeated = scale.repeat_interleave(2, -1).repeat_interleave(2, -2) if block_size else scale
    expected = quantize_dequantize(tensor.detach() / repeated, torch.ones(()), FLOAT8_E4M3FN) * repeated
    assert torch.equal(quantize_dequantize(tensor, scale, FLOAT8_E4M3FN, block_size), expected)


@DTYPES
def test_the_result_has_the_type_of_the_tensor_and_is_computed_in_float32_at_least(
    dtype: torch.dtype,
) -> None:
    tensor, scale = torch.randn(64).to(dtype), torch.rand(64, dtype=torch.float32) + 0.1
    found = quantize_dequantize(tensor, scale, FLOAT8_E4M3FN)
    wide = torch.promote_types(dtype, torch.float32)
    expected = quantize_dequantize(tensor.to(wide), scale, FLOAT8_E4M3FN).to(dtype)
    assert found.dtype == dtype
    assert torch.equal(found, expected)


def test_a_bfloat16_tensor_beyond_float16_saturates() -> None:
    tensor = torch.tensor([1e5, -1e38], dtype=torch.bfloat16)
    found = quantize_dequantize(tensor, torch.ones(()), FLOAT16, has_unit_scale=True)
    assert found.tolist() == [65536.0, -65536.0]  # the bfloat16 next to 65504


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool], ids=str)
def test_integers_and_bools_are_returned_as_they_are(dtype: torch.dtype) -> None:
    tensor = torch.ones(3).to(dtype)
    assert quantize_dequantize(tensor, torch.ones(()), FLOAT16) is tensor


@EVERY_SMALL_TYPE
def test_codes_of_their_own_type_dequantize_to_the_type_of_scale(float_type: FloatType) -> None:
    codes = quantize(torch.tensor([0.5, -3.0]), torch.tensor(0.25), float_type)
    packed = codes.to(float_type.torch_dtype or torch.float32)
    assert torch.equal(dequantize(packed, torch.tensor(0.25)).float(), dequantize(codes, torch.tensor(0.25)))


@DTYPES
@pytest.mark.parametrize(
    ("float_type", "scale"), [(BFLOAT16, 1.0), (FLOAT8_E4M3FN, 0.25), (FLOAT4_E2M1, 0.5)], ids=str
)
def test_the_gradient_passes_where_the_type_reaches(
    dtype: torch.dtype, float_type: FloatType, scale: float
) -> None:
    edge = min(float_type.max * scale, 1000.0)
    tensor = torch.tensor([-2.0, -1.0, -0.3, 0.0, 0.7, 1.0, 2.0], dtype=dtype) * edge
    tensor = torch.cat([tensor, torch.tensor([torch.nan, torch.inf], dtype=dtype)]).requires_grad_()
    upstream = torch.arange(1.0, 10.0, dtype=dtype)
    quantize_dequantize(tensor, torch.tensor(scale), float_type).backward(upstream)
    inside = tensor.detach().double().abs() <= float_type.max * scale
    assert tensor.grad is not None
    assert torch.equal(tensor.grad, upstream * inside)


def test_the_gradient_of_codes_is_divided_by_the_scale() -> None:
    tensor = torch.tensor([0.3, 5.0], requires_grad=True)
    quantize(tensor, torch.tensor(0.5), FLOAT4_E2M1).sum().backward()
    assert tensor.grad is not None
    assert tensor.grad.tolist() == [2.0, 0.0]


def test_the_largest_element_of_each_block_keeps_its_gradient() -> None:
    tensor = torch.randn(64, 64, requires_grad=True)
    scale = tensor.detach().abs().amax(1, keepdim=True) / FLOAT8_E4M3FN.max
    quantize_dequantize(tensor, scale, FLOAT8_E4M3FN).sum().backward()
    assert tensor.grad is not None
    assert tensor.grad.eq(1).all()


def test_a_scale_gets_no_gradient() -> None:
    tensor, scale = torch.ones(3, requires_grad=True), torch.tensor(0.1, requires_grad=True)
    quantize_dequantize(tensor, scale, FLOAT8_E4M3FN).sum().backward()
    assert scale.grad is None
    assert not quantize_dequantize(tensor.detach(), scale, FLOAT8_E4M3FN).requires_grad


def test_training_keeps_one_byte_per_element() -> None:
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        quantize_dequantize(torch.randn(1000, requires_grad=True), torch.tensor(0.1), FLOAT8_E4M3FN)
    assert sum(tensor.nbytes for tensor in kept) == 1000


@pytest.mark.parametrize(
    ("scale_shape", "block_size"), [((3,), None), ((2, 2), (2, 3)), ((2, 2), (1, 1, 2)), ((1, 1, 1), None)]
)
@pytest.mark.parametrize("function", [quantize, quantize_dequantize], ids=["quantize", "quantize_dequantize"])
def test_a_scale_that_does_not_fit_is_refused(
    function: Function, scale_shape: tuple[int, ...], block_size: tuple[int, ...] | None
) -> None:
    with pytest.raises(QuantizerError):
        function(torch.zeros(4, 4), torch.ones(scale_shape), FLOAT8_E4M3FN, block_size)


def test_an_unknown_type_is_refused() -> None:
    unknown = FloatType(exponent_bits=3, mantissa_bits=3, finite=True)
    with pytest.raises(QuantizerError, match="limited support"):
        quantize_dequantize(torch.zeros(2), torch.ones(()), unknown)
