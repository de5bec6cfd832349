import itertools

import pytest
import torch

from fxquant.algorithms.gptq_rows import Grid, gptq_rows, refined_rows

Case = tuple[torch.Tensor, torch.Tensor, Grid]


def case(length: int = 48, outputs: int = 6, groups: int = 2, *, alike: float = 0.9) -> Case:
    """Return rows, the moments of patches whose elements go together, and a grid of 4 bits."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(groups, outputs, length, generator=generator)
    shared = torch.randn(groups, 4 * length, 1, generator=generator)
    patches = alike * shared + (1 - alike) * torch.randn(groups, 4 * length, length, generator=generator)
    hessian = patches.mT @ patches / patches.shape[1]
    scale = (rows.abs().amax(dim=2, keepdim=True) / 7.3).expand(rows.shape).contiguous()
    return rows, hessian, Grid(scale=scale, offset=torch.zeros_like(scale), qmin=-8, qmax=7)


def cost(rows: torch.Tensor, target: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    difference = rows - target
    return ((difference @ hessian) * difference).sum(dim=2)


def assert_on_grid(rows: torch.Tensor, grid: Grid) -> None:
    assert torch.equal(rows, grid.snapped(rows))


@pytest.mark.parametrize("act_order", [True, False], ids=["by size", "in order"])
def test_rows_cost_far_less_than_the_nearest_ones_where_inputs_go_together(act_order: bool) -> None:
    rows, hessian, grid = case()
    found = gptq_rows(rows, hessian, grid, act_order=act_order)
    assert_on_grid(found, grid)
    old, new = cost(grid.snapped(rows), rows, hessian).sum(), cost(found, rows, hessian).sum()
    assert float(new) < 0.1 * float(old)


def test_rows_are_the_nearest_ones_where_inputs_have_nothing_in_common() -> None:
    rows, hessian, grid = case()
    diagonal = torch.diag_embed(hessian.diagonal(dim1=1, dim2=2))
    assert torch.equal(gptq_rows(rows, diagonal, grid), grid.snapped(rows))


@pytest.mark.parametrize("block", [1, 7, 16])
def test_the_size_of_a_block_is_a_matter_of_speed_only(block: int) -> None:
    rows, hessian, grid = case()
    whole = gptq_rows(rows, hessian, grid, block=128)
    steps = (gptq_rows(rows, hessian, grid, block=block) - whole) / grid.scale
    assert float((steps.abs() > 0.5).float().mean()) < 0.01  # ties fall either way in float32


def test_weights_that_meet_only_zeros_are_finite_and_the_others_as_without_them() -> None:
    rows, hessian, grid = case()
    is_dead = torch.zeros(rows.shape[2], dtype=torch.bool)
    is_dead[::5] = True
    hessian[:, is_dead] = 0
    hessian[:, :, is_dead] = 0
    found = gptq_rows(rows, hessian, grid)
    assert_on_grid(found, grid)
    old, new = cost(grid.snapped(rows), rows, hessian).sum(), cost(found, rows, hessian).sum()
    assert float(new) < 0.1 * float(old)


@pytest.mark.parametrize("block", [1, 16, 128])
def test_refined_rows_cannot_be_made_better_by_moving_one_weight(block: int) -> None:
    rows, hessian, grid = case(length=12)
    found = refined_rows(grid.snapped(rows), rows, hessian, grid, sweeps=30, block=block)
    least = cost(found, rows, hessian)
    assert_on_grid(found, grid)
    for column, step in itertools.product(range(rows.shape[2]), (-1, 1)):
        moved = found.clone()
        moved[..., column] = grid.snapped(found + step * grid.scale)[..., column]
        assert bool((cost(moved, rows, hessian) >= least * (1 - 1e-4)).all())


def test_refined_rows_stay_between_their_ends() -> None:
    rows, hessian, grid = case()
    ends = grid.snapped(rows) - grid.scale, grid.snapped(rows)
    found = refined_rows(grid.snapped(rows), rows, hessian, grid, 3, 16, ends)
    assert_on_grid(found, grid)
    assert bool((found >= ends[0] - 1e-5).all() and (found <= ends[1] + 1e-5).all())
    assert bool((cost(found, rows, hessian) <= cost(grid.snapped(rows), rows, hessian)).all())
