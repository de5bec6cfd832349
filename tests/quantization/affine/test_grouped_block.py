"""LPBQ: scales of blocks that are whole multiples of one scale per group."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxquant.errors import QuantizerError
from fxquant.quantization import AffineEncoding, GroupedBlockEncoding
from fxquant.quantization.affine import GroupedBlockQuantizeDequantize, QuantizeDequantize
from tests.quantization.strategies import tensors_of

EPS = torch.finfo(torch.float32).eps
GOLDEN_MULTIPLES = [[9, 16, 10, 11], [13, 16, 6, 14], [4, 4, 6, 16], [5, 3, 16, 9]]
GOLDEN_GROUP_SCALES = [[0.0165], [0.0165], [0.0206], [0.0305]]


def made(
    grouping: tuple[int, ...] | None = (1, 4), bitwidth: int = 4, decompressed_bw: int = 8
) -> GroupedBlockQuantizeDequantize:
    return GroupedBlockQuantizeDequantize(
        (4, 4), bitwidth, True, decompressed_bw, block_size=(1, 4), block_grouping=grouping
    )


@pytest.fixture
def weight() -> torch.Tensor:
    """Return the weight of the golden values: of seed 0, as every test begins with."""
    return torch.randn(4, 16)


@pytest.fixture
def quantizer(weight: torch.Tensor) -> GroupedBlockQuantizeDequantize:
    """Return a quantizer calibrated with the weight."""
    quantizer = made()
    with quantizer.compute_encodings():
        quantizer(weight)
    return quantizer


@pytest.mark.parametrize("grouping", [(1, 4), (1, -1), [1, 4]], ids=str)
def test_calibration_gives_the_golden_multiples(weight: torch.Tensor, grouping: tuple[int, ...]) -> None:
    quantizer = made(grouping)
    quantizer.calibrate(weight)
    encoding = quantizer.get_encodings()
    assert encoding.per_block_int_scale.tolist() == GOLDEN_MULTIPLES
    scales = quantizer.get_per_channel_scale().flatten().tolist()
    assert scales == pytest.approx([scale for (scale,) in GOLDEN_GROUP_SCALES], abs=5e-5)  # four digits


@settings(max_examples=50)
@given(
    weight=tensors_of((4, 16)),
    grouping=st.sampled_from([(1, 4), (1, 2), (1, 1), (-1, -1), (2, 4), (4, 1)]),
    bits=st.sampled_from([(2, 4), (4, 4), (4, 8), (8, 8), (4, 12)]),
)
def test_scales_are_whole_multiples_of_the_group_scale(
    weight: torch.Tensor, grouping: tuple[int, ...], bits: tuple[int, int]
) -> None:
    quantizer = made(grouping, *bits)
    quantizer.calibrate(weight)
    raw = (quantizer.max - quantizer.min) / (2 ** bits[0] - 1)
    rows, columns = (4 if size == -1 else size for size in grouping)
    grouped = raw.reshape(4 // rows, rows, 4 // columns, columns)
    group_scale = grouped.amax((1, 3), keepdim=True) / 2 ** (bits[1] - bits[0])
    multiples = (grouped / group_scale).round().clamp(1, 2 ** (bits[1] - bits[0]))
    # min-max ranges of 4 steps and up: the smallest scale widens none of them twice
    assert torch.equal(quantizer.get_scale(), (multiples * group_scale).reshape(4, 4))
    assert torch.equal(quantizer.get_per_channel_scale(), group_scale.reshape(4 // rows, 4 // columns))
    assert torch.equal(quantizer.get_encodings().per_block_int_scale, multiples.reshape(4, 4))


@pytest.mark.parametrize("options", [{"grouping": None}, {"grouping": (1, 1)}], ids=str)
def test_groups_of_one_block_are_plain_blocks(
    weight: torch.Tensor, options: dict[str, tuple[int, ...]]
) -> None:
    grouped, plain = made(**options), QuantizeDequantize((4, 4), 4, True, block_size=(1, 4))
    grouped.calibrate(weight)
    plain.calibrate(weight)
    assert torch.equal(grouped(weight), plain(weight))
    assert grouped.block_grouping == (1, 1)


def test_values_lie_on_the_wide_grid_of_their_group(
    quantizer: GroupedBlockQuantizeDequantize, weight: torch.Tensor
) -> None:
    codes = quantizer(weight).as_subclass(torch.Tensor) / quantizer.get_per_channel_scale()
    assert (codes - codes.round()).abs().max() <= 128 * 4 * EPS  # codes of up to 8 bits, a few roundings each
    assert codes.abs().max() <= 128.5


def test_calibration_writes_the_range_of_each_block(
    quantizer: GroupedBlockQuantizeDequantize, weight: torch.Tensor
) -> None:
    plain = QuantizeDequantize((4, 4), 4, True, block_size=(1, 4))
    plain.calibrate(weight)
    assert torch.equal(quantizer.min, plain.min)
    assert not torch.equal(quantizer.get_min(), quantizer.min)


def test_calls_during_calibration_are_on_the_grid_of_groups(weight: torch.Tensor) -> None:
    quantizer = made()
    with quantizer.compute_encodings():
        during = quantizer(weight)
    assert torch.equal(during, quantizer(weight))


def test_gradients_reach_the_range(quantizer: GroupedBlockQuantizeDequantize, weight: torch.Tensor) -> None:
    quantizer(weight).square().sum().backward()
    assert bool((quantizer.max.grad != 0).any())


@pytest.mark.parametrize(
    ("shape", "symmetric", "decompressed_bw", "grouping", "message"),
    [
        ((4, 4), False, 8, (1, 4), "only supports symmetric quantization"),
        ((4, 4), True, 8, (4,), "Length of block grouping"),
        ((4, 4), True, 8, (1, 1, 1), "Length of block grouping"),
        ((4, 4), True, 8, (1, 3), "does not divide the number of blocks"),
        ((4, 4), True, 3, (1, 4), "Decompressed bitwidth 3 cannot be smaller than bitwidth 4"),
    ],
    ids=["asymmetric", "too-short", "too-long", "indivisible", "too-narrow"],
)
def test_groups_that_cannot_be_are_refused(
    shape: tuple[int, ...], symmetric: bool, decompressed_bw: int, grouping: tuple[int, ...], message: str
) -> None:
    with pytest.raises(RuntimeError, match=message):
        GroupedBlockQuantizeDequantize(
            shape, 4, symmetric, decompressed_bw, block_size=(1, 4), block_grouping=grouping
        )


def test_a_group_of_no_blocks_is_refused() -> None:
    with pytest.raises(QuantizerError):
        made((1, 0))


@pytest.mark.parametrize(("name", "value"), [("symmetric", False), ("bitwidth", 12)], ids=str)
def test_what_the_constructor_refuses_cannot_be_set(
    quantizer: GroupedBlockQuantizeDequantize, name: str, value: int
) -> None:
    with pytest.raises(QuantizerError):
        setattr(quantizer, name, value)


def test_it_prints_as_aimet_does(quantizer: GroupedBlockQuantizeDequantize) -> None:
    grid = "shape=(4, 4), block_size=(1, 4), qmin=-8, qmax=7, symmetric=True"
    assert repr(quantizer) == f"GroupedBlockQuantizeDequantize({grid})"


def test_without_a_range_there_is_no_scale_of_groups() -> None:
    assert made().get_per_channel_scale() is None
    assert made().get_encodings() is None
    assert made()(torch.empty(0)).shape == (0,)


def loaded(quantizer: GroupedBlockQuantizeDequantize) -> GroupedBlockQuantizeDequantize:
    found = made((1, 1), decompressed_bw=4)
    found.load_state_dict(quantizer.state_dict())
    return found


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.deepcopy,
        lambda quantizer: pickle.loads(pickle.dumps(quantizer)),
        loaded,
        lambda quantizer: GroupedBlockQuantizeDequantize.from_encodings(quantizer.get_encodings()),
    ],
    ids=["deepcopy", "pickle", "state", "encoding"],
)
def test_copies_states_and_encodings_bring_the_groups(
    quantizer: GroupedBlockQuantizeDequantize, weight: torch.Tensor, duplicate: object
) -> None:
    found = duplicate(quantizer)  # type: ignore[operator]
    assert (found.decompressed_bw, found.block_grouping) == (8, (1, 4))
    assert {type(size) for size in found.block_grouping} == {int}
    assert torch.equal(found(weight), quantizer(weight))


@pytest.mark.parametrize(
    "encoding", [None, AffineEncoding(torch.ones(2, 2), torch.zeros(2, 2), 4, True)], ids=str
)
def test_it_is_made_from_encodings_of_groups_only(encoding: object) -> None:
    with pytest.raises(TypeError, match=r"Expected .*GroupedBlockEncoding"):
        GroupedBlockQuantizeDequantize.from_encodings(encoding)


def test_an_encoding_of_groups_makes_a_plain_quantizer_of_its_blocks(
    quantizer: GroupedBlockQuantizeDequantize, weight: torch.Tensor
) -> None:
    plain = QuantizeDequantize.from_encodings(quantizer.get_encodings())
    # ends are rounded products of the scale, and the scale again is their difference over 15
    torch.testing.assert_close(plain(weight), quantizer(weight), rtol=8 * EPS, atol=0)


def test_an_encoding_says_how_it_is_grouped(quantizer: GroupedBlockQuantizeDequantize) -> None:
    encoding = quantizer.get_encodings()
    assert (encoding.decompressed_bw, encoding.block_grouping, encoding.bitwidth) == (8, (1, 4), 4)
    assert (encoding.mapping, encoding.granularity, encoding.symmetry) == ("affine", "blockwise", True)
    assert torch.equal(encoding.scale, encoding.per_block_int_scale * encoding.per_channel_scale)


def test_casting_an_encoding_keeps_its_groups(quantizer: GroupedBlockQuantizeDequantize) -> None:
    encoding = quantizer.get_encodings().to(torch.float64)
    assert type(encoding) is GroupedBlockEncoding
    assert (encoding.per_channel_scale.dtype, encoding.decompressed_bw) == (torch.float64, 8)


def test_a_scaled_encoding_has_scaled_groups(quantizer: GroupedBlockQuantizeDequantize) -> None:
    assert quantizer.get_encodings().scaled(2.0).per_block_int_scale.tolist() == GOLDEN_MULTIPLES


@pytest.mark.parametrize(
    "version",
    [
        "1.0.0",
        "2.0.0",
        "2.1.0",
    ],
)
def test_an_entry_of_a_file_gives_the_encoding_back(
    quantizer: GroupedBlockQuantizeDequantize, version: str
) -> None:
    encoding = quantizer.get_encodings()
    found = GroupedBlockEncoding.from_qnn_encoding_dict(encoding.to_qnn_encoding_dict(version), (4, 4))
    # the file holds the group's scale, of which the encoding's scales are rounded multiples
    torch.testing.assert_close(found.scale, encoding.scale.detach(), rtol=EPS, atol=0)
    assert found.per_block_int_scale.tolist() == GOLDEN_MULTIPLES
    assert tuple(found.block_size) == (1, 4)
    assert (found.decompressed_bw, found.bitwidth, found.symmetry) == (8, 4, True)
    assert found.to_qnn_encoding_dict(version) == encoding.to_qnn_encoding_dict(version)


def test_version_1_has_flat_lists(quantizer: GroupedBlockQuantizeDequantize) -> None:
    entry = quantizer.get_encodings().to_qnn_encoding_dict("1.0.0")
    scales = entry.pop("scale")
    assert scales == pytest.approx([scale for (scale,) in GOLDEN_GROUP_SCALES], abs=5e-5)
    assert entry == {
        "dtype": "INT",
        "bw": 8,
        "compressed_bw": 4,
        "is_sym": True,
        "offset": [-128] * 4,
        "enc_type": "LPBQ",
        "block_size": 4,
        "per_block_int_scale": [multiple for row in GOLDEN_MULTIPLES for multiple in row],
    }


def test_version_2_0_has_nested_lists(quantizer: GroupedBlockQuantizeDequantize) -> None:
    entry = quantizer.get_encodings().to_qnn_encoding_dict("2.0.0")
    scales = entry.pop("per_channel_float_scale")
    assert torch.allclose(torch.tensor(scales), torch.tensor(GOLDEN_GROUP_SCALES), atol=5e-5)
    assert entry == {
        "output_dtype": "int4",
        "axis": -1,
        "block_size": 4,
        "per_block_int_scale": GOLDEN_MULTIPLES,
    }


def test_version_2_1_has_a_scale_of_the_scales(quantizer: GroupedBlockQuantizeDequantize) -> None:
    entry = quantizer.get_encodings().to_qnn_encoding_dict("2.1.0")
    scales = entry["y_scale"].pop("x_scale")
    assert scales == pytest.approx([scale for (scale,) in GOLDEN_GROUP_SCALES], abs=5e-5)
    assert entry == {
        "output_dtype": "int4",
        "axis": -1,
        "block_size": 4,
        "y_scale": {"x": GOLDEN_MULTIPLES, "axis": -2},
    }


def test_an_entry_without_groups_is_refused() -> None:
    with pytest.raises(QuantizerError, match="not an entry of an LPBQ encoding"):
        GroupedBlockEncoding.from_qnn_encoding_dict({"y_scale": 1.0, "output_dtype": "int8"})


def test_an_entry_of_version_1_needs_the_shape(quantizer: GroupedBlockQuantizeDequantize) -> None:
    entry = quantizer.get_encodings().to_qnn_encoding_dict("1.0.0")
    with pytest.raises(QuantizerError, match="needs the shape of scale"):
        GroupedBlockEncoding.from_qnn_encoding_dict(entry)
