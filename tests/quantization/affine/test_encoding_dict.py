"""Affine encodings as entries of encodings files, and back."""

import json
from typing import Any

import pytest
import torch
from hypothesis import given

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization import AffineEncoding
from tests.quantization.strategies import ranges, shaped_encodings

VERSIONS = pytest.mark.parametrize("version", ["0.6.1", "1.0.0", "2.0.0", "2.1.0"])
BLOCK_VERSIONS = pytest.mark.parametrize("version", ["1.0.0", "2.0.0", "2.1.0"])


def asymmetric(scale: Any = 0.5, offset: Any = -94.0, bits: int = 8) -> AffineEncoding:
    return AffineEncoding(torch.tensor(scale), torch.tensor(offset), bits)


def symmetric(scale: Any = 0.5, bits: int = 8, **options: Any) -> AffineEncoding:
    return AffineEncoding(
        torch.tensor(scale), torch.zeros_like(torch.tensor(scale)), bits, True, True, **options
    )


def assert_same(found: AffineEncoding, expected: AffineEncoding) -> None:
    assert torch.equal(found.scale, expected.scale)
    assert torch.equal(found.offset, expected.offset)
    names = ("qmin", "qmax", "symmetry", "zero_point_shift")
    assert [getattr(found, name) for name in names] == [getattr(expected, name) for name in names]


@pytest.mark.parametrize("bits", [2, 4, 8, 16, 24])
@pytest.mark.parametrize("kind", [symmetric, asymmetric])
@VERSIONS
def test_an_entry_gives_the_encoding_back(kind: Any, version: str, bits: int) -> None:
    encoding = {symmetric: symmetric(0.1, bits), asymmetric: asymmetric(0.1, -1.0, bits)}[kind]
    entry = json.loads(json.dumps(encoding.to_qnn_encoding_dict(version)))
    assert_same(AffineEncoding.from_qnn_encoding_dict(entry), encoding)


@pytest.mark.parametrize("shape", [(3,), (3, 1, 1, 1), (1, 3), (1, 3, 1)], ids=str)
@pytest.mark.parametrize("kind", ["symmetric", "asymmetric"])
@VERSIONS
def test_an_entry_per_channel_gives_the_encoding_back(
    version: str, kind: str, shape: tuple[int, ...]
) -> None:
    scale = torch.tensor([0.1, 0.2, 0.3]).reshape(shape)
    encodings = {
        "symmetric": AffineEncoding(scale, torch.zeros_like(scale), 8, True, True),
        "asymmetric": AffineEncoding(scale, -torch.tensor([3.0, 94.0, 255.0]).reshape(shape), 8),
    }
    entry = json.loads(json.dumps(encodings[kind].to_qnn_encoding_dict(version)))
    assert_same(AffineEncoding.from_qnn_encoding_dict(entry, shape), encodings[kind])


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 1, 1)], ids=str)
@BLOCK_VERSIONS
def test_an_entry_per_block_gives_the_encoding_back(version: str, shape: tuple[int, ...]) -> None:
    scale = torch.rand(shape)
    encoding = AffineEncoding(scale, torch.zeros(shape), 4, True, True, (1, 8, 1, 1)[: len(shape)])
    entry = json.loads(json.dumps(encoding.to_qnn_encoding_dict(version)))
    found = AffineEncoding.from_qnn_encoding_dict(entry, shape)
    assert_same(found, encoding)
    weight = torch.randn(3, 16, 1, 1)[(...,) if len(shape) == 4 else (..., 0, 0)]
    assert torch.equal(found.quantize_dequantize(weight), encoding.quantize_dequantize(weight))


@VERSIONS
def test_a_shift_is_written_and_read(version: str) -> None:
    encoding = AffineEncoding(torch.tensor(0.5), torch.tensor(0.0), 2, True, True, zero_point_shift=0.5)
    entry = json.loads(json.dumps(encoding.to_qnn_encoding_dict(version)))
    assert_same(AffineEncoding.from_qnn_encoding_dict(entry), encoding)


@VERSIONS
@given(bounds=ranges(), encoding=shaped_encodings((3, 1)))
def test_an_entry_gives_the_values_back(
    version: str, bounds: tuple[float, float], encoding: AffineEncoding
) -> None:
    # Narrow grids and signs of asymmetric ones are not in files of versions 0.6.1 and 1.0.0; the values are.
    entry = json.loads(json.dumps(encoding.to_qnn_encoding_dict(version)))
    found = AffineEncoding.from_qnn_encoding_dict(entry, (3, 1))
    x = (
        torch.linspace(*bounds, 20).expand(3, 20).clamp(encoding.min.amax(), encoding.max.amin())
    )  # inside the grid of every channel
    assert torch.equal(found.quantize_dequantize(x), encoding.quantize_dequantize(x))


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            "0.6.1",
            [
                {
                    "min": -47.0,
                    "max": 80.5,
                    "scale": 0.5,
                    "offset": -94,
                    "bitwidth": 8,
                    "dtype": "int",
                    "is_symmetric": "False",
                }
            ],
        ),
        (
            "1.0.0",
            {
                "dtype": "INT",
                "bw": 8,
                "is_sym": False,
                "scale": [0.5],
                "offset": [-94],
                "enc_type": "PER_TENSOR",
            },
        ),
        ("2.0.0", {"output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 94}),
        ("2.1.0", {"output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 94}),
        (
            "2.0.0.beta",
            {"output_dtype": "uint8", "y_scale": 0.5, "y_zero_point": 94, "axis": None, "block_size": None},
        ),
    ],
)
def test_an_asymmetric_encoding_is_written_as_aimet_writes_it(version: str, expected: Any) -> None:
    assert asymmetric().to_qnn_encoding_dict(version) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            "1.0.0",
            {
                "dtype": "INT",
                "bw": 8,
                "is_sym": True,
                "scale": [0.5, 0.25],
                "offset": [-128, -128],
                "enc_type": "PER_CHANNEL",
            },
        ),
        ("2.0.0", {"output_dtype": "int8", "y_scale": [0.5, 0.25], "axis": -4}),
        ("2.1.0", {"output_dtype": "int8", "y_scale": [0.5, 0.25], "axis": -4}),
        (
            "2.0.0.beta",
            {
                "output_dtype": "int8",
                "y_scale": [0.5, 0.25],
                "y_zero_point": None,
                "axis": 0,
                "block_size": None,
            },
        ),
    ],
)
def test_a_symmetric_encoding_per_channel_is_written_as_aimet_writes_it(version: str, expected: Any) -> None:
    scale = [[[[0.5]]], [[[0.25]]]]
    assert symmetric(scale).to_qnn_encoding_dict(version) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            "1.0.0",
            {
                "dtype": "INT",
                "bw": 4,
                "is_sym": True,
                "scale": [0.5, 0.25, 1.0, 2.0],
                "offset": [-8, -8, -8, -8],
                "enc_type": "PER_BLOCK",
                "block_size": 8,
            },
        ),
        (
            "2.0.0",
            {"output_dtype": "int4", "y_scale": [[0.5, 0.25], [1.0, 2.0]], "axis": -1, "block_size": 8},
        ),
    ],
)
def test_blocks_are_written_as_aimet_writes_them(version: str, expected: Any) -> None:
    encoding = symmetric([[0.5, 0.25], [1.0, 2.0]], 4, block_size=(1, 8))
    assert encoding.to_qnn_encoding_dict(version) == expected


def test_the_version_is_1_0_0_by_default() -> None:
    assert asymmetric().to_qnn_encoding_dict() == asymmetric().to_qnn_encoding_dict("1.0.0")


def test_a_version_there_is_not_is_refused() -> None:
    with pytest.raises(OptionError, match=r"There is no encoding version '3\.0\.0'"):
        asymmetric().to_qnn_encoding_dict("3.0.0")


@pytest.mark.parametrize("block_size", [(1, -1), (-1, 8), (-1, -1)], ids=str)
@BLOCK_VERSIONS
def test_blocks_of_open_size_need_the_shape_of_the_tensor(version: str, block_size: tuple[int, ...]) -> None:
    encoding = symmetric([[0.5, 0.25], [1.0, 2.0]], 4, block_size=block_size)
    with pytest.raises(QuantizerError, match="Blocks of size -1 have no length without a tensor"):
        encoding.to_qnn_encoding_dict(version)
    assert encoding.to_qnn_encoding_dict(version, (2, 16))["block_size"] == 8


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("1.0.0", "Version 1.0.0 cannot say a scale of shape"),
        ("2.0.0", "has no unique channel and block axis"),
    ],
)
def test_a_scale_that_varies_along_two_axes_cannot_be_written(version: str, message: str) -> None:
    with pytest.raises(QuantizerError, match=message):
        symmetric([[0.5, 0.25], [1.0, 2.0]]).to_qnn_encoding_dict(version)


def test_version_0_6_1_lists_blocks_in_order() -> None:
    entries = symmetric([[0.5, 0.25], [1.0, 2.0]], 4, block_size=(1, 8)).to_qnn_encoding_dict("0.6.1")
    assert [entry["scale"] for entry in entries] == [0.5, 0.25, 1.0, 2.0]


def test_a_zero_point_of_32_unsigned_bits_is_written() -> None:
    encoding = asymmetric(1e-9, -3221225472.0, 32)
    assert encoding.to_qnn_encoding_dict("2.0.0")["y_zero_point"] == 3221225472


@pytest.mark.parametrize(
    "entry",
    [
        {},
        [],
        {"dtype": "FLOAT", "bw": 16, "enc_type": "PER_TENSOR"},
        [{"bitwidth": 16, "dtype": "float"}],
        {"output_dtype": "float8e4m3fn", "y_scale": 1.0},
        {"output_dtype": "int4", "y_scale": {"x": [[1]], "x_scale": [1.0]}},
    ],
    ids=["empty", "empty-list", "float", "float-0.6.1", "float8", "double-quantized"],
)
def test_an_entry_of_another_kind_is_refused(entry: Any) -> None:
    with pytest.raises(QuantizerError, match="of an affine encoding"):
        AffineEncoding.from_qnn_encoding_dict(entry)


@pytest.mark.parametrize(
    "entry",
    [{"dtype": "INT", "bw": 8}, {"y_scale": 1.0}, [{"dtype": "int", "scale": 1.0}]],
    ids=["1.0.0", "2.0.0", "0.6.1"],
)
def test_an_entry_that_lacks_a_field_is_refused(entry: Any) -> None:
    with pytest.raises(QuantizerError):
        AffineEncoding.from_qnn_encoding_dict(entry)


@pytest.mark.parametrize(
    ("version", "message"), [("1.0.0", "Pass the shape of scale"), ("0.6.1", "Pass the shape")]
)
def test_several_scales_need_their_shape(version: str, message: str) -> None:
    entry = symmetric([[0.5], [0.25]]).to_qnn_encoding_dict(version)
    with pytest.raises(QuantizerError, match=message):
        AffineEncoding.from_qnn_encoding_dict(entry)


def test_version_2_says_its_shape_itself() -> None:
    entry = symmetric([[0.5], [0.25]]).to_qnn_encoding_dict("2.0.0")
    assert AffineEncoding.from_qnn_encoding_dict(entry).scale.tolist() == [[0.5], [0.25]]


@VERSIONS
def test_a_shape_that_the_scales_do_not_fill_is_refused(version: str) -> None:
    entry = symmetric([[0.5], [0.25]]).to_qnn_encoding_dict(version)
    with pytest.raises(QuantizerError, match="2 scales do not fit the shape"):
        AffineEncoding.from_qnn_encoding_dict(entry, (3, 1))
