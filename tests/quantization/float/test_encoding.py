"""FloatEncoding: what it tells, and what carries it."""

import copy
import pickle

import pytest
import torch
from torch.nn import functional as F

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization import DequantizedTensor
from fxquant.quantization.float import FloatEncoding, FloatType
from fxquant.quantization.float.float_type import FLOAT4_E2M1, FLOAT8_E4M3FN, FLOAT16
from tests.quantization.float.types import EVERY_SMALL_TYPE


def encoding_of(
    float_type: FloatType, scale: torch.Tensor | float, block_size: tuple[int, ...] | None = None
) -> FloatEncoding:
    return FloatEncoding(
        float_type.mantissa_bits,
        float_type.exponent_bits,
        float_type.finite,
        float_type.unsigned_zero,
        torch.as_tensor(scale),
        block_size,
    )


def carrier(tensor: torch.Tensor, encoding: FloatEncoding) -> DequantizedTensor:
    return DequantizedTensor.carrying(encoding.quantize_dequantize(tensor), encoding)


@EVERY_SMALL_TYPE
def test_it_tells_its_type(float_type: FloatType) -> None:
    encoding = encoding_of(float_type, 0.5)
    told = encoding.exponent_bits, encoding.mantissa_bits, encoding.finite, encoding.unsigned_zero
    assert FloatType(**dict(zip(FloatType.__dataclass_fields__, told, strict=True))) == float_type
    assert (encoding.mapping, encoding.bitwidth) == ("float", float_type.bitwidth)
    assert encoding.maxval == float_type.max / 2


@EVERY_SMALL_TYPE
def test_the_numbers_of_its_codes_come_in_their_own_type(float_type: FloatType) -> None:
    tensor = torch.randn(16)
    quantized = carrier(tensor, encoding_of(float_type, 0.25))
    numbers = quantized.quantized_repr()
    assert numbers.dtype == (float_type.torch_dtype or torch.float32)
    assert torch.equal(numbers.float(), quantized.quantize().as_subclass(torch.Tensor))
    assert torch.equal(quantized.quantize().dequantize(), quantized)


@pytest.mark.parametrize(
    ("scale", "block_size", "granularity"),
    [
        (torch.ones(()), None, "pertensor"),
        (torch.ones(1), None, "perchannel"),
        (torch.ones(4, 1), None, "perchannel"),
        (torch.ones(4, 2), (1, -1), "blockwise"),
        (torch.ones(4, 2), None, "unknown"),
    ],
)
def test_granularity(scale: torch.Tensor, block_size: tuple[int, ...] | None, granularity: str) -> None:
    assert encoding_of(FLOAT8_E4M3FN, scale, block_size).granularity == granularity


def test_it_goes_to_another_type_and_device_as_a_tensor_does() -> None:
    encoding = encoding_of(FLOAT16, 0.1)
    half = encoding.to(dtype=torch.float16)
    assert encoding.to("cpu", torch.float32) is encoding
    assert (half.scale.dtype, encoding.scale.dtype) == (torch.float16, torch.float32)
    assert half.float_type == FLOAT16


def test_it_does_not_go_to_integers() -> None:
    with pytest.raises(QuantizerError, match="not a float type"):
        encoding_of(FLOAT16, 0.1).to(torch.int32)


def test_a_missing_scale_is_refused() -> None:
    with pytest.raises(OptionError, match="scale"):
        FloatEncoding(10, 5, False, False, None)  # type: ignore[arg-type]  # what is tested


def test_a_unit_scale_is_noticed_and_forgotten_when_scaled() -> None:
    encoding = encoding_of(FLOAT16, 1.0)
    assert encoding.has_unit_scale
    assert not encoding.scaled(2.0).has_unit_scale


@pytest.mark.parametrize("factor", [2.0, -0.5, -3.0])
def test_a_multiple_lies_on_the_scaled_grid(factor: float) -> None:
    quantized = carrier(torch.randn(64), encoding_of(FLOAT8_E4M3FN, 0.25))
    product = quantized * factor
    assert isinstance(product, DequantizedTensor)
    assert product.encoding is not None
    assert torch.equal(product.encoding.quantize_dequantize(product), product)
    assert torch.equal(product.quantized_repr().float().abs(), quantized.quantized_repr().float().abs())


@pytest.mark.parametrize(
    ("scale", "block_size"),
    [
        (torch.tensor(0.25), None),
        (torch.tensor([[0.25], [0.5], [1.0], [2.0]]), None),
        (torch.tensor([0.25, 0.5, 1.0, 2.0, 4.0, 8.0]), None),
        (torch.tensor([[0.25, 0.5], [1.0, 2.0]]), (2, 3)),
        (torch.tensor([[0.25, 0.5], [1.0, 2.0]]), (-1, -1)),
    ],
    ids=["tensor", "rows", "columns", "blocks", "open-blocks"],
)
def test_rows_of_a_table_keep_their_scales(scale: torch.Tensor, block_size: tuple[int, ...] | None) -> None:
    table = carrier(torch.randn(4, 6), encoding_of(FLOAT4_E2M1, scale, block_size))
    rows = F.embedding(torch.tensor([[3, 0, 0], [1, 2, 3]]), table)
    assert isinstance(rows, DequantizedTensor)
    assert torch.equal(rows.quantize().dequantize(), rows)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))], ids=["deepcopy", "pickle"]
)
def test_copies_are_equal_and_apart(duplicate: object) -> None:
    assert callable(duplicate)
    encoding = encoding_of(FLOAT8_E4M3FN, torch.tensor([[0.1], [0.2]]), (1, -1))
    twin = duplicate(encoding)
    twin.scale.mul_(2)
    assert torch.equal(twin.scale, encoding.scale * 2)
    assert (twin.float_type, twin.block_size) == (encoding.float_type, encoding.block_size)
