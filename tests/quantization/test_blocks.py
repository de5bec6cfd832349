"""Blocks: which element of a scale serves which elements of a tensor."""

import pytest
import torch

from fxquant.errors import QuantizerError
from fxquant.quantization.blocks import (
    blockwise,
    check_scale,
    concrete_block_size,
    in_blocks,
    is_expandable,
    per_block,
)

FITTING = pytest.mark.parametrize(
    ("tensor", "scale", "block_size", "served"),  # served: by one element of the scale, along each axis
    [
        ((4, 6), (), None, (4, 6)),
        ((4, 6), (6,), None, (4, 1)),
        ((4, 6), (4, 1), None, (1, 6)),
        ((4, 6), (1, 1), None, (4, 6)),
        ((4, 6), (4, 6), (), (1, 1)),
        ((4, 6), (2, 3), (2, 2), (2, 2)),
        ((4, 6), (2, 3), [2, 2], (2, 2)),
        ((4, 6), (2, 3), (-1, -1), (2, 2)),
        ((4, 6), (4, 3), (-1,), (1, 2)),
        ((4, 6), (1, 3), (2,), (4, 2)),
        ((5, 4, 6), (2, 3), (2, 2), (5, 2, 2)),
        ((5, 4, 6), (1, 2, 3), (2, 2), (5, 2, 2)),
        ((2, 2, 6, 10), (1, 2, 2, 2), (2, 1, 3, 5), (2, 1, 3, 5)),
        ((8, 4, 3, 3), (8, 2, 1, 1), (1, 2, -1, -1), (1, 2, 3, 3)),
    ],
    ids=str,
)


@FITTING
def test_a_scale_that_serves_every_element_fits(
    tensor: tuple[int, ...],
    scale: tuple[int, ...],
    block_size: tuple[int, ...] | None,
    served: tuple[int, ...],
) -> None:
    check_scale(tensor, scale, block_size)


@pytest.mark.parametrize(
    ("tensor", "scale"),
    [((4, 6), (4,)), ((4, 6), (5, 1)), ((4,), (1, 4)), ((1, 6), (4, 1)), ((), (1,)), ((4, 6), (0, 1))],
    ids=str,
)
def test_a_scale_that_does_not_broadcast_is_refused(tensor: tuple[int, ...], scale: tuple[int, ...]) -> None:
    with pytest.raises(QuantizerError, match="cannot be expanded like input tensor of shape"):
        check_scale(tensor, scale, None)


@pytest.mark.parametrize(
    ("tensor", "scale", "block_size"),
    [
        ((4, 6), (2, 3), (2, 3)),
        ((4, 7), (2, 3), (2, -1)),
        ((4, 6), (2, 4), (2, -1)),
        ((4, 6), (2, 3), (2, 0)),
        ((4, 6), (2, 3), (2, -2)),
        ((4, 6), (4, 6), (2, 1)),
        ((5, 4, 6), (4, 2, 3), (2, 2)),
        ((4, 6), (2, 3), (-1,)),
    ],
    ids=str,
)
def test_blocks_that_do_not_cover_the_tensor_are_refused(
    tensor: tuple[int, ...], scale: tuple[int, ...], block_size: tuple[int, ...]
) -> None:
    with pytest.raises(QuantizerError, match="must equal the corresponding scale dimension size"):
        check_scale(tensor, scale, block_size)


@pytest.mark.parametrize(
    ("tensor", "scale", "block_size"),
    [((4, 6), (2, 3), (1, 2, 2)), ((6,), (2, 3), (2, 2)), ((4, 6), (), (2, 2))],
    ids=["more-sizes-than-axes", "more-axes-than-the-tensor", "no-axes"],
)
def test_ranks_that_do_not_match_are_refused(
    tensor: tuple[int, ...], scale: tuple[int, ...], block_size: tuple[int, ...]
) -> None:
    with pytest.raises(QuantizerError, match="do not have matching ranks"):
        check_scale(tensor, scale, block_size)


def test_a_scale_without_elements_is_refused_where_the_tensor_has_some() -> None:
    with pytest.raises(QuantizerError):
        check_scale((2, 4), (0, 2), (-1, 2))


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((), (2, 3), True),
        ((3,), (2, 3), True),
        ((2,), (2, 3), False),
        ((1, 1), (2, 3), True),
        ((2, 3, 1), (2, 3), False),
        ((2, 3), (1, 3), False),
    ],
    ids=str,
)
def test_expandable_means_as_torch_expands(
    shape: tuple[int, ...], target: tuple[int, ...], expected: bool
) -> None:
    assert is_expandable(shape, target) is expected


@pytest.mark.parametrize(
    ("tensor", "scale", "block_size", "expected"),
    [
        ((4, 6), (2, 3), (-1, 2), (2, 2)),
        ((4, 6), (2, 3), (-1,), (1, 2)),
        ((5, 4, 6), (2, 3), (2, -1), (2, 2)),
        ((4, 6), (1, 3), (-1,), (4, 2)),
        ((4, 6), (4, 1), (), (1, 6)),
    ],
    ids=str,
)
def test_a_size_left_open_takes_what_there_is(
    tensor: tuple[int, ...], scale: tuple[int, ...], block_size: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert concrete_block_size(tensor, scale, block_size) == expected


def test_blocks_are_axes_of_their_own() -> None:
    x = torch.arange(24).view(4, 6)
    blocks = in_blocks(x, (2, 3), (2, 2))
    assert blocks.shape == (1, 2, 2, 3, 2)
    assert blocks[0, 1, :, 2, :].tolist() == x[2:4, 4:6].tolist()


def test_axes_beyond_the_scale_share_blocks() -> None:
    assert in_blocks(torch.zeros(5, 4, 6), (2, 3), (2, 2)).shape == (5, 2, 2, 3, 2)


def test_blocks_of_a_contiguous_tensor_are_a_view() -> None:
    x = torch.zeros(4, 6)
    assert in_blocks(x, (2, 3), (2, 2)).data_ptr() == x.data_ptr()


def test_a_scale_per_block_broadcasts_against_blocks() -> None:
    assert per_block(torch.zeros(2, 3)).shape == (2, 1, 3, 1)


@FITTING
def test_each_element_meets_the_scale_of_its_block(
    tensor: tuple[int, ...],
    scale: tuple[int, ...],
    block_size: tuple[int, ...] | None,
    served: tuple[int, ...],
) -> None:
    scales = torch.arange(1.0, torch.Size(scale).numel() + 1).view(scale)
    found = blockwise(torch.mul, torch.ones(tensor), scales, block_size)
    assert torch.equal(found, torch.kron(scales, torch.ones(served)))
