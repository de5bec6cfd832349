import itertools

import torch

from fxquant.algorithms.gptq_rows import Grid, refined_rows
from fxquant.algorithms.soft_rounding import SoftRounding, Weighing
from tests.algorithms.test_gptq_rows import case, cost

WEIGHING = Weighing(weight=0.5, warm_up=0.2)


def learnt(rows: torch.Tensor, hessian: torch.Tensor, grid: Grid, iterations: int = 300) -> SoftRounding:
    soft = SoftRounding(rows, hessian, grid)
    soft.learn(iterations, 0.03, WEIGHING)
    return soft


def test_rows_lie_on_the_grid_next_to_their_targets() -> None:
    rows, hessian, grid = case()
    soft = learnt(rows, hessian, grid)
    low, high = soft.ends()
    found = soft.rows()
    torch.testing.assert_close(found, grid.snapped(found))
    assert bool(((found == low) | (found == high)).all())
    inside = (rows / grid.scale > grid.qmin) & (rows / grid.scale < grid.qmax)
    assert bool(((low <= rows) & (rows <= high))[inside].all())


def test_the_best_of_all_roundings_is_nearly_met() -> None:
    rows, hessian, grid = case(length=10, outputs=8, groups=1, alike=0.6)
    soft = learnt(rows, hessian, grid)
    low, high = soft.ends()
    choices = torch.tensor(list(itertools.product((False, True), repeat=10)))
    every = torch.where(choices[:, None, None], high, low)
    best = torch.stack([cost(one, rows, hessian) for one in every]).amin(dim=0)
    found = refined_rows(soft.rows(), rows, hessian, grid, 4, 128, (low, high))
    nearest = cost(grid.snapped(rows), rows, hessian)
    assert float(cost(found, rows, hessian).sum()) < 1.15 * float(best.sum()) < 0.6 * float(nearest.sum())


def test_learning_beats_single_moves_from_the_nearest_rows() -> None:
    rows, hessian, grid = case(length=64, alike=0.3)
    soft = learnt(rows, hessian, grid)
    ends = soft.ends()
    found = refined_rows(soft.rows(), rows, hessian, grid, 4, 128, ends)
    single = refined_rows(grid.snapped(rows), rows, hessian, grid, 4, 128, ends)
    assert float(cost(found, rows, hessian).sum()) < float(cost(single, rows, hessian).sum())


def test_without_iterations_rows_are_the_nearest_ones() -> None:
    rows, hessian, grid = case()
    torch.testing.assert_close(SoftRounding(rows, hessian, grid).rows(), grid.snapped(rows))


def test_weights_that_meet_only_zeros_are_the_nearest_ones() -> None:
    rows, hessian, grid = case()
    found = learnt(rows, torch.zeros_like(hessian), grid, iterations=50).rows()
    torch.testing.assert_close(found, grid.snapped(rows))
