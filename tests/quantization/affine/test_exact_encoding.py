import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fxquant.errors import QuantizerError
from fxquant.quantization import AffineEncoding, functional
from fxquant.quantization.affine import GroupedBlockQuantizeDequantize, QuantizeDequantize
from fxquant.quantization.affine.exact_encoding import set_exactly
from tests.quantization.strategies import shaped_encodings

SCALES = st.floats(2.0**-20, 2.0**20, width=32)


@given(encoding=shaped_encodings((3, 1), max_bitwidth=32))
def test_range_of_a_grid_gives_the_grid_back(encoding: AffineEncoding) -> None:
    grid = encoding.qmin, encoding.qmax
    ends = functional.range_of(encoding.scale, encoding.offset, *grid)
    scale, offset = functional.scale_and_offset(*ends, *grid, encoding.symmetry)
    assert torch.equal(scale, encoding.scale)
    assert torch.equal(offset, encoding.offset)


@given(
    scales=st.lists(SCALES, min_size=4, max_size=4),
    zero=st.integers(0, 15),
    bits=st.sampled_from([2, 4, 8, 16]),
)
def test_any_scale_is_set_to_the_last_bit(scales: list[float], zero: int, bits: int) -> None:
    scale, offset = torch.tensor(scales).reshape(4, 1), torch.full((4, 1), -float(min(zero, 2**bits - 1)))
    quantizer = QuantizeDequantize((4, 1), bits, False)
    set_exactly(quantizer, scale, offset)
    found = quantizer.get_encodings()
    assert torch.equal(found.scale, scale)
    assert torch.equal(found.offset, offset)


@pytest.mark.parametrize("narrow", [True, False])
def test_any_scale_of_a_symmetric_grid_is_set_to_the_last_bit(narrow: bool) -> None:
    scale = torch.linspace(0.01, 0.02, 1000)
    quantizer = QuantizeDequantize((1000,), -127 if narrow else -128, 127, True)
    set_exactly(quantizer, scale, torch.zeros(1000))
    assert torch.equal(quantizer.get_scale(), scale)
    assert torch.equal(quantizer.get_offset(), torch.zeros(1000))


def test_scales_of_groups_are_set_to_the_last_bit() -> None:
    multiples = torch.tensor([[16.0, 3.0], [5.0, 16.0]])
    scale = multiples * torch.tensor([[0.1], [0.3]])
    quantizer = GroupedBlockQuantizeDequantize((2, 2), 4, True, 8, block_size=(1, 4), block_grouping=(1, 2))
    set_exactly(quantizer, scale, torch.zeros(2, 2))
    assert torch.equal(quantizer.get_scale(), scale)


def test_quantizer_keeps_min_and_max_where_they_give_the_scale() -> None:
    quantizer = QuantizeDequantize((), 8, False)
    set_exactly(quantizer, torch.tensor(0.5), torch.tensor(-10.0))
    assert (quantizer.min.item(), quantizer.max.item()) == (-5.0, 122.5)


@pytest.mark.parametrize(
    ("scale", "offset", "symmetric"),
    [(0.1, 1.0, False), (0.1, -300.0, False), (0.1, -0.5, False), (0.1, -3.0, True), (1e-12, 0.0, True)],
    ids=["zero_below", "zero_above", "zero_between", "zero_off_the_middle", "too_fine"],
)
def test_quantizer_that_cannot_have_an_encoding_stays_as_it_was(
    scale: float, offset: float, symmetric: bool
) -> None:
    quantizer = QuantizeDequantize((), 8, symmetric)
    quantizer.set_range(-1.0, 1.0)
    before = {name: value.clone() for name, value in quantizer.named_parameters()}
    with pytest.raises(QuantizerError, match="No quantizer of the grid"):
        set_exactly(quantizer, torch.tensor(scale), torch.tensor(offset))
    after = dict(quantizer.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
