"""Which elements of a tensor share one range."""

import pytest
import torch

from fxquant.errors import QuantizerError
from fxquant.quantization.encoding_analyzer import reduce_to_shape
from fxquant.quantization.encoding_analyzer.rows import as_rows

SHAPES = [
    ((), (0, 1, 2, 3, 4)),
    ((1, 1, 1, 1), (0, 1, 2, 3, 4)),
    ((2, 1, 1, 1), (1, 2, 3, 4)),
    ((3, 1, 1), (0, 2, 3, 4)),
    ((1, 3, 1, 5), (0, 2, 4)),
    ((2, 3, 4, 5), (4,)),
]


@pytest.mark.parametrize(("shape", "reduced"), SHAPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_reduction_keeps_the_axes_of_the_shape(
    shape: tuple[int, ...], reduced: tuple[int, ...], layout: torch.memory_format
) -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=layout)
    minimum, maximum = reduce_to_shape(x, shape)
    with_unit_axis = x.unsqueeze(4)  # an axis to reduce also where the shape keeps all four
    assert torch.equal(minimum, with_unit_axis.amin(reduced).reshape(shape))
    assert torch.equal(maximum, with_unit_axis.amax(reduced).reshape(shape))


@pytest.mark.parametrize(
    ("shape", "block_size"),
    [
        ((2, 3), (2, 4)),
        ((2, 3), (-1, -1)),
        ((1, 3), (-1, 4)),
        ((4, 1), (1, -1)),
        ((3,), (4,)),
        ((2, 3), (4,)),
    ],
    ids=str,
)
def test_blocks_are_those_cut_by_hand(shape: tuple[int, ...], block_size: tuple[int, ...]) -> None:
    x = torch.randn(4, 12) if shape != (2, 3) or block_size != (4,) else torch.randn(2, 12)
    rows, cols = (1, *shape)[-2:]
    cut = [block.reshape(-1) for strip in x.chunk(rows) for block in strip.chunk(cols, dim=1)]
    assert all(torch.equal(a, b) for a, b in zip(as_rows(x, shape, block_size), cut, strict=True))
    minimum, maximum = reduce_to_shape(x, shape, block_size)
    assert torch.equal(minimum, torch.stack(cut).amin(1).reshape(shape))
    assert torch.equal(maximum, torch.stack(cut).amax(1).reshape(shape))


@pytest.mark.parametrize(("shape", "_"), SHAPES, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_rows_hold_the_elements_of_their_range(
    shape: tuple[int, ...], _: object, layout: torch.memory_format
) -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=layout)
    rows = as_rows(x, shape)
    assert torch.equal(rows.amin(1).reshape(shape), reduce_to_shape(x, shape)[0])
    assert torch.equal(rows.flatten().sort().values, x.flatten().sort().values)


def test_a_number_is_one_row_of_one() -> None:
    assert as_rows(torch.tensor(3.0), ()).tolist() == [[3.0]]


@pytest.mark.parametrize("shape", [(3,), (2, 3, 1), (3, 1)], ids=str)
def test_a_shape_that_does_not_fit_is_rejected(shape: tuple[int, ...]) -> None:
    with pytest.raises(QuantizerError, match="cannot be expanded"):
        reduce_to_shape(torch.randn(2, 4), shape)


@pytest.mark.parametrize(
    ("shape", "block_size"), [((2, 3), (1, 2)), ((2,), (1, 2)), ((2, 2, 2), (1, 1, 1))], ids=str
)
def test_blocks_that_do_not_fit_are_rejected(shape: tuple[int, ...], block_size: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError):
        as_rows(torch.randn(2, 4), shape, block_size)


def test_a_row_with_a_nan_has_nan_ends() -> None:
    x = torch.tensor([[1.0, float("nan")], [1.0, 2.0]])
    assert [end.isnan().tolist() for end in reduce_to_shape(x, (2, 1))] == [[[True], [False]]] * 2
