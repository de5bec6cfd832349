"""QuantizationSpec: the grid it stands for, and what it refuses."""

import dataclasses
import re

import pytest
import torch

from fxquant.errors import OptionError, QuantizerError
from fxquant.quantization import QuantizationSpec
from fxquant.quantization.float import FloatType
from fxquant.quantization.of_spec import quantizer_of

GRIDS = pytest.mark.parametrize(
    ("spec", "grid", "name"),
    [
        (QuantizationSpec(), (-128, 127), "int8"),
        (QuantizationSpec(narrow=True), (-127, 127), "int8"),
        (QuantizationSpec(signed=False, symmetric=False), (0, 255), "uint8 asymmetric"),
        (QuantizationSpec(bitwidth=4, channel_axis=0), (-8, 7), "int4 axis 0"),
        (QuantizationSpec(bitwidth=2), (-2, 1), "int2"),
        (QuantizationSpec(bitwidth=16, signed=False), (0, 65535), "uint16"),
        (QuantizationSpec(bitwidth=32), (-(2**31), 2**31 - 1), "int32"),
        (QuantizationSpec(bitwidth=4, channel_axis=0, block_size=32), (-8, 7), "int4 axis 0 blocks of 32"),
        (
            QuantizationSpec(bitwidth=4, channel_axis=0, block_size=32, decompressed_bits=8),
            (-8, 7),
            "int4 axis 0 blocks of 32 on 8 bits",
        ),
    ],
    ids=["int8", "narrow", "uint8", "int4", "int2", "uint16", "int32", "blocks", "lpbq"],
)


@GRIDS
def test_the_type_gives_the_grid(spec: QuantizationSpec, grid: tuple[int, int], name: str) -> None:
    assert (spec.qmin, spec.qmax) == grid


@GRIDS
def test_a_spec_reads_as_one_phrase(spec: QuantizationSpec, grid: tuple[int, int], name: str) -> None:
    assert str(spec) == name


@pytest.mark.parametrize(
    ("axis", "shape"),
    [(None, ()), (0, (8, 1, 1, 1)), (1, (1, 3, 1, 1)), (-1, (1, 1, 1, 7)), (-4, (8, 1, 1, 1))],
    ids=str,
)
def test_the_scale_broadcasts_against_the_tensor(axis: int | None, shape: tuple[int, ...]) -> None:
    assert QuantizationSpec(channel_axis=axis).scale_shape((8, 3, 5, 7)) == shape


@pytest.mark.parametrize(
    ("axis", "shape"), [(2, (8, 3)), (5, (8, 3)), (-3, (8, 3)), (0, ()), (-1, ())], ids=str
)
def test_a_channel_axis_that_the_tensor_lacks_is_refused(axis: int, shape: tuple[int, ...]) -> None:
    message = f"A tensor of shape {shape} has no axis {axis}."
    with pytest.raises(QuantizerError, match=re.escape(message)):
        QuantizationSpec(channel_axis=axis).scale_shape(shape)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bitwidth": 1}, "A bitwidth of 1 is not supported. Choose 2 to 32."),
        ({"bitwidth": 33}, "A bitwidth of 33 is not supported."),
        ({"signed": False, "narrow": True}, "An unsigned grid cannot be narrow. Set"),
        ({"fixed_range": (0.5, 1.0)}, r"does not contain zero"),
        ({"fixed_range": (1.0, -1.0)}, r"does not contain zero"),
        ({"fixed_range": (float("nan"), 1.0)}, r"does not contain zero"),
        ({"block_size": 0}, "A block of 0 elements is empty. Choose 1 or more."),
        ({"decompressed_bits": 8}, "A grid of 8 bits does not decompress to 8 bits. Choose symmetric blocks"),
        ({"block_size": 4, "decompressed_bits": 4}, "A grid of 8 bits does not decompress to 4 bits."),
        ({"block_size": 4, "decompressed_bits": 8, "symmetric": False}, "Choose symmetric blocks"),
    ],
    ids=[
        "1-bit",
        "33-bit",
        "narrow-unsigned",
        "range-above-zero",
        "range-inverted",
        "range-nan",
        "empty block",
        "no blocks",
        "narrower",
        "asymmetric blocks",
    ],
)
def test_values_that_contradict_each_other_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        QuantizationSpec(**options)


def test_a_fixed_range_may_end_at_zero() -> None:
    assert QuantizationSpec(fixed_range=(0.0, 1.0)).fixed_range == (0.0, 1.0)


def test_equal_specs_are_one_key_and_cannot_be_changed() -> None:
    spec = QuantizationSpec(bitwidth=4)
    assert {spec: 1}[QuantizationSpec(bitwidth=4)] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.bitwidth = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("axis", "shape", "scales"),
    [
        (0, (8, 64), (8, 2)),
        (1, (64, 8), (2, 8)),
        (0, (8, 64, 3, 3), (8, 2, 1, 1)),
        (0, (8, 48), (8, 1)),
        (None, (8, 64), ()),
    ],
    ids=["linear", "transposed", "conv", "not divided", "no channels"],
)
def test_blocks_have_a_scale_each(axis: int | None, shape: tuple[int, ...], scales: tuple[int, ...]) -> None:
    assert QuantizationSpec(channel_axis=axis, block_size=32).scale_shape(shape) == scales


@pytest.mark.parametrize("change", [{"bitwidth": 16}, {"symmetric": False}], ids=["bits", "asymmetric"])
def test_float_type_has_its_own_bits_and_a_symmetric_grid(change: dict[str, object]) -> None:
    with pytest.raises(OptionError, match="float8_e4m3fn has 8 bits and a symmetric grid"):
        QuantizationSpec(**{"float_type": FloatType.of_onnx("float8e4m3fn"), **change})


def test_float_type_is_named_in_the_text_of_a_spec() -> None:
    spec = QuantizationSpec(float_type=FloatType.of_onnx("float8e4m3fn"), channel_axis=0)
    assert str(spec) == "float8_e4m3fn axis 0"
    assert quantizer_of(spec, (4, 3)).get_scale().shape == (4, 1)


def test_fixed_range_gives_a_float_quantizer_its_scale() -> None:
    spec = QuantizationSpec(float_type=FloatType.of_onnx("float8e4m3fn"), fixed_range=(0.0, 1.0))
    quantizer = quantizer_of(spec)
    assert quantizer.has_range()
    assert not quantizer.is_overwrite_allowed()
    assert torch.equal(quantizer.get_encodings().scale, torch.tensor(1.0) / 448)
