"""quantize, quantize_dequantize and dequantize: every way to write a grid."""

from typing import Any

import pytest
import torch

from fxquant.errors import FxQuantError, QuantizerError
from fxquant.quantization.affine import dequantize, quantize, quantize_dequantize

SCALE, OFFSET = torch.tensor(0.5), torch.tensor(0.0)
FAR = torch.tensor([-1e6, 1e6])

WAYS = pytest.mark.parametrize(
    ("args", "kwargs", "grid"),
    [
        ((-128, 127), {}, (-128, 127)),
        ((-128,), {"qmax": 127}, (-128, 127)),
        ((), {"qmin": -3, "qmax": 9}, (-3, 9)),
        ((8,), {}, (0, 255)),
        ((8, True), {}, (-128, 127)),
        ((8, False), {}, (0, 255)),
        ((8,), {"signed": True}, (-128, 127)),
        ((), {"bitwidth": 4}, (0, 15)),
        ((), {"bitwidth": 4, "signed": True}, (-8, 7)),
        ((), {"num_steps": 255}, (0, 255)),
        ((), {"num_steps": 255, "signed": True}, (-128, 127)),
        ((), {"num_steps": 254, "signed": True}, (-127, 127)),
        ((), {"num_steps": 7, "signed": False}, (0, 7)),
        ((), {"num_steps": 7, "signed": True}, (-4, 3)),
    ],
    ids=str,
)


@WAYS
def test_the_grid_is_written_in_any_way(
    args: tuple[int, ...], kwargs: dict[str, Any], grid: tuple[int, int]
) -> None:
    assert quantize(FAR, SCALE, OFFSET, *args, **kwargs).tolist() == list(grid)
    assert quantize_dequantize(FAR, SCALE, OFFSET, *args, **kwargs).tolist() == [grid[0] / 2, grid[1] / 2]


@pytest.mark.parametrize("function", [quantize, quantize_dequantize], ids=["quantize", "quantize_dequantize"])
@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((-8, 7, (1, 2)), {}),
        ((-8, 7), {"block_size": (1, 2)}),
        ((4, True, (1, 2)), {}),
        ((4, True), {"block_size": [1, 2]}),
        ((), {"num_steps": 15, "signed": True, "block_size": (-1, -1)}),
    ],
    ids=str,
)
def test_blocks_follow_the_grid(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    x, scale = torch.randn(2, 4), torch.tensor([[0.5, 0.25], [1.0, 2.0]])
    offset = torch.zeros(2, 2)
    spread = scale.repeat_interleave(2, 1)
    expected = function(x, spread, torch.zeros(2, 4), -8, 7)
    assert torch.equal(function(x, scale, offset, *args, **kwargs), expected)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((-2, 1, None, 0.5), {}), ((2, True, None, 0.5), {}), ((2, True), {"zero_point_shift": 0.5})],
    ids=str,
)
def test_a_shift_follows_the_blocks(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    x = torch.tensor([-9.0, -0.1, 0.1, 9.0])
    assert quantize_dequantize(x, SCALE, OFFSET, *args, **kwargs).tolist() == [-0.75, -0.25, 0.25, 0.75]
    with pytest.raises(QuantizerError, match="A grid with a zero-point shift has no codes"):
        quantize(x, SCALE, OFFSET, *args, **kwargs)


@pytest.mark.parametrize("function", [quantize, quantize_dequantize], ids=["quantize", "quantize_dequantize"])
@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ((), {}, TypeError),
        ((), {"signed": True}, TypeError),
        ((), {"qmax": 3}, TypeError),
        ((), {"qmin": 3}, TypeError),
        ((8,), {"num_steps": 255}, TypeError),
        ((8,), {"bitwidth": 8}, TypeError),
        ((8, True), {"signed": True}, TypeError),
        ((8,), {"foo": 1}, TypeError),
        ((0, 255), {"num_steps": 255}, TypeError),
        ((0, 255, None, 0.0, 1), {}, TypeError),
        ((8,), {"zero_point_shift": 0.3}, ValueError),
    ],
    ids=str,
)
def test_a_grid_written_in_no_way_is_refused(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        function(FAR, SCALE, OFFSET, *args, **kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((5, 5), {}), ((8, 1), {}), ((0, True), {}), ((), {"num_steps": 0}), ((), {"num_steps": -1})],
    ids=str,
)
def test_a_grid_without_steps_is_refused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises((FxQuantError, TypeError)):
        quantize(FAR, SCALE, OFFSET, *args, **kwargs)


def test_codes_become_real_values() -> None:
    codes = torch.tensor([0.0, 3.0, 255.0])
    assert dequantize(codes, SCALE, torch.tensor(-2.0)).tolist() == [-1.0, 0.5, 126.5]


@pytest.mark.parametrize("block_size", [(1, 2), (-1, -1), [1, 2]], ids=str)
def test_codes_of_blocks_become_real_values(block_size: Any) -> None:
    found = dequantize(torch.ones(1, 4), torch.tensor([[0.5, 2.0]]), torch.tensor([[0.0, 1.0]]), block_size)
    assert found.tolist() == [[0.5, 0.5, 4.0, 4.0]]


@pytest.mark.parametrize("function", [quantize, quantize_dequantize], ids=["quantize", "quantize_dequantize"])
def test_gradients_reach_tensor_scale_and_offset(function: Any) -> None:
    leaves = [torch.tensor(value, requires_grad=True) for value in (99.0, 0.5, 0.0)]
    function(*leaves, 8, True).backward()
    assert all(leaf.grad is not None for leaf in leaves)


def test_codes_that_the_type_cannot_hold_are_refused() -> None:
    with pytest.raises(
        RuntimeError, match=r"torch\.float16 is unable to represent quantized output of range"
    ):
        quantize(FAR.half(), SCALE, OFFSET, 16)
