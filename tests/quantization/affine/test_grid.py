"""Grids of integers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fxquant.errors import QuantizerError
from fxquant.quantization.affine.grid import GridMixin, integer_grid


class Grid(GridMixin):
    """A grid and nothing else."""

    def __init__(self, qmin: int, qmax: int) -> None:
        self.qmin, self.qmax = qmin, qmax


@pytest.mark.parametrize(
    ("bitwidth", "signed", "grid"),
    [
        (1, False, (0, 1)),
        (1, True, (-1, 0)),
        (2, True, (-2, 1)),
        (8, True, (-128, 127)),
        (8, False, (0, 255)),
        (32, True, (-(2**31), 2**31 - 1)),
        (32, False, (0, 2**32 - 1)),
    ],
    ids=str,
)
def test_an_integer_type_has_a_grid(bitwidth: int, signed: bool, grid: tuple[int, int]) -> None:
    assert integer_grid(bitwidth, signed) == grid


@given(bitwidth=st.integers(1, 32), signed=st.booleans())
def test_the_grid_of_a_type_has_its_bitwidth_and_sign(bitwidth: int, signed: bool) -> None:
    grid = Grid(*integer_grid(bitwidth, signed))
    assert (grid.bitwidth, grid.signed) == (bitwidth, signed)


@given(bitwidth=st.integers(1, 32), other=st.integers(1, 32), signed=st.booleans())
def test_setting_bitwidth_and_sign_gives_the_grid_of_the_type(
    bitwidth: int, other: int, signed: bool
) -> None:
    grid = Grid(*integer_grid(other, not signed))
    grid.bitwidth, grid.signed = bitwidth, signed
    assert (grid.qmin, grid.qmax) == integer_grid(bitwidth, signed)


@pytest.mark.parametrize("grid", [(-127, 127), (1, 16), (-3, 5), (-2, 2)], ids=str)
@pytest.mark.parametrize("name", ["bitwidth", "signed"])
def test_a_grid_of_no_integer_type_has_neither(name: str, grid: tuple[int, int]) -> None:
    found = Grid(*grid)
    message = rf"Grid\.{name} is undefined in the quantization grid \[{grid[0]}, {grid[1]}\]"
    with pytest.raises(QuantizerError, match=message):
        getattr(found, name)
    with pytest.raises(QuantizerError, match=message):
        setattr(found, name, 4)


@pytest.mark.parametrize("grid", [(0, 9), (-5, 4)], ids=str)
def test_a_grid_that_fills_no_type_has_a_sign_but_no_bitwidth(grid: tuple[int, int]) -> None:
    found = Grid(*grid)
    assert found.signed is (grid[0] < 0)
    with pytest.raises(QuantizerError, match="bitwidth is undefined"):
        _ = found.bitwidth


def test_the_sign_of_a_grid_that_fills_no_type_goes_there_and_back() -> None:
    grid = Grid(0, 9)
    grid.signed = True
    assert (grid.qmin, grid.qmax) == (-5, 4)
    grid.signed = False
    assert (grid.qmin, grid.qmax) == (0, 9)


def test_a_grid_with_an_odd_number_of_codes_has_no_signed_counterpart() -> None:
    grid = Grid(0, 2)
    with pytest.raises(QuantizerError, match="signed is undefined"):
        grid.signed = True
    assert (grid.qmin, grid.qmax) == (0, 2)
