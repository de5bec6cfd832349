"""Float encodings as entries of encodings files: written, read back, or refused."""

import json
from typing import Any

import pytest
import torch

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization.float import FloatEncoding, FloatType
from fxquant.quantization.float.float_type import (
    BFLOAT16,
    FLOAT4_E2M1,
    FLOAT8_E4M3FN,
    FLOAT8_E5M2,
    FLOAT8_E5M2FNUZ,
    FLOAT16,
)
from tests.quantization.float.test_encoding import encoding_of

VERSION_2 = pytest.mark.parametrize("version", ["2.0.0", "2.1.0", "2.1.0.beta"])


def read_back(entry: Any, shape: tuple[int, ...] | None = None) -> FloatEncoding:
    return FloatEncoding.from_qnn_encoding_dict(json.loads(json.dumps(entry)), shape)


@pytest.mark.parametrize("float_type", [FLOAT16, BFLOAT16], ids=str)
@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.6.1", [{"bitwidth": 16, "dtype": "float"}]),
        ("1.0.0", {"dtype": "FLOAT", "bw": 16, "enc_type": "PER_TENSOR"}),
        (None, {"dtype": "FLOAT", "bw": 16, "enc_type": "PER_TENSOR"}),
        ("2.0.0", {}),
        ("2.1.0", {}),
    ],
)
def test_a_16_bit_type_without_a_scale(float_type: FloatType, version: str | None, expected: object) -> None:
    assert encoding_of(float_type, 1.0).to_qnn_encoding_dict(version) == expected


@pytest.mark.parametrize("version", ["0.6.1", "1.0.0"])
def test_16_bits_are_read_as_float16(version: str) -> None:
    found = read_back(encoding_of(FLOAT16, 1.0).to_qnn_encoding_dict(version))
    assert (found.float_type, found.scale.tolist(), found.block_size) == (FLOAT16, 1.0, None)


@VERSION_2
@pytest.mark.parametrize(
    ("float_type", "scale", "block_size", "expected"),
    [
        (FLOAT8_E4M3FN, torch.tensor(0.5), None, {"output_dtype": "float8e4m3fn", "y_scale": 0.5}),
        (FLOAT8_E5M2, torch.tensor([0.5]), None, {"output_dtype": "float8e5m2", "y_scale": 0.5}),
        (
            FLOAT8_E5M2FNUZ,
            torch.tensor([[0.5], [2.0]]),
            None,
            {"output_dtype": "float8e5m2fnuz", "y_scale": [0.5, 2.0], "axis": -2},
        ),
        (
            FLOAT4_E2M1,
            torch.tensor([[0.5, 1.0], [2.0, 4.0]]),
            (1, 16),
            {
                "output_dtype": "float4e2m1",
                "y_scale": [[0.5, 1.0], [2.0, 4.0]],
                "axis": -1,
                "block_size": 16,
            },
        ),
    ],
    ids=["per-tensor", "one-channel", "per-channel", "blocks"],
)
def test_version_2_entries_and_their_way_back(
    version: str,
    float_type: FloatType,
    scale: torch.Tensor,
    block_size: tuple[int, ...] | None,
    expected: dict[str, object],
) -> None:
    entry = encoding_of(float_type, scale, block_size).to_qnn_encoding_dict(version)
    found = read_back(entry)
    assert entry == expected
    assert (found.float_type, found.block_size) == (float_type, block_size)
    assert torch.equal(found.scale, scale.reshape(found.scale.shape))
    assert found.to_qnn_encoding_dict(version) == entry


def test_open_blocks_get_their_length_from_the_tensor() -> None:
    encoding = encoding_of(FLOAT4_E2M1, torch.rand(4, 2), (1, -1))
    entry = encoding.to_qnn_encoding_dict("2.0.0", shape=(4, 64))
    assert isinstance(entry, dict)
    assert entry["block_size"] == 32


def test_open_blocks_without_a_tensor_are_refused() -> None:
    with pytest.raises(QuantizerError, match="no length"):
        encoding_of(FLOAT4_E2M1, torch.rand(4, 2), (1, -1)).to_qnn_encoding_dict("2.0.0")


@pytest.mark.parametrize("version", ["0.6.1", "1.0.0"])
@pytest.mark.parametrize(
    ("float_type", "scale", "reason"),
    [
        (FLOAT8_E4M3FN, torch.tensor(1.0), "float8_e4m3fn"),
        (FLOAT16, torch.tensor(0.5), "non-1 scale"),
        (FLOAT16, torch.tensor([1.0, 0.5]), "non-1 scale"),
    ],
    ids=["type", "scale", "scales"],
)
def test_versions_before_2_refuse_what_they_cannot_say(
    version: str, float_type: FloatType, scale: torch.Tensor, reason: str
) -> None:
    with pytest.raises(QuantizerError, match=reason):
        encoding_of(float_type, scale).to_qnn_encoding_dict(version)


@VERSION_2
def test_version_2_refuses_to_lose_the_scale_of_16_bits(version: str) -> None:
    with pytest.raises(QuantizerError, match="non-1 scale"):
        encoding_of(FLOAT16, 0.5).to_qnn_encoding_dict(version)


@VERSION_2
def test_version_2_refuses_a_type_that_onnx_does_not_have(version: str) -> None:
    with pytest.raises(QuantizerError, match="no type for float8_e3m4"):
        encoding_of(FloatType(exponent_bits=3, mantissa_bits=4), 0.5).to_qnn_encoding_dict(version)


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(OptionError, match=r"encoding version '3\.0'"):
        encoding_of(FLOAT16, 1.0).to_qnn_encoding_dict("3.0")


@pytest.mark.parametrize(
    "entry",
    [
        {},
        [],
        {"dtype": "INT", "bw": 8},
        {"dtype": "FLOAT", "bw": 8, "enc_type": "PER_TENSOR"},
        [{"dtype": "int", "bitwidth": 8}],
        {"output_dtype": "int8", "y_scale": 0.5},
        {"output_dtype": "float4e2m1", "y_scale": {"x": [1.0], "x_scale": 0.5}},
    ],
    ids=str,
)
def test_an_entry_of_another_kind_is_refused(entry: Any) -> None:
    with pytest.raises(QuantizerError, match="not an entry of a float encoding"):
        FloatEncoding.from_qnn_encoding_dict(entry)


def test_an_entry_of_an_unknown_float_type_is_refused() -> None:
    with pytest.raises(OptionError, match="float type 'float8e3m4'"):
        FloatEncoding.from_qnn_encoding_dict({"output_dtype": "float8e3m4", "y_scale": 1.0})


def test_several_scales_need_a_shape_where_the_axis_counts_from_the_front() -> None:
    entry = {"output_dtype": "float8e4m3fn", "y_scale": [0.5, 1.0], "axis": 0}
    assert read_back(entry, (2, 1, 1)).scale.shape == (2, 1, 1)
    with pytest.raises(QuantizerError, match="does not say along which axis"):
        read_back(entry)
