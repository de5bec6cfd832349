import torch

from fxquant.algorithms.gptq_rows import Grid
from fxquant.algorithms.range_choice import RangeChoice
from tests.algorithms.test_gptq_rows import case, cost


def candidates(rows: torch.Tensor, grid: Grid) -> list[torch.Tensor]:
    grids = [
        Grid(scale=grid.scale * share, offset=grid.offset, qmin=-8, qmax=7) for share in (1.0, 0.9, 0.75, 0.5)
    ]
    return [one.snapped(rows) for one in grids]


def test_of_whole_rows_the_best_candidate_is_chosen() -> None:
    rows, hessian, grid = case()
    units = torch.arange(12).reshape(2, 6, 1).expand(rows.shape)
    choice = RangeChoice(hessian, rows, units)
    tried = candidates(rows, grid)
    for candidate in tried:
        choice.add(candidate)
    best = torch.stack([cost(candidate, rows, hessian) for candidate in tried]).argmin(dim=0)
    assert torch.equal(choice.chosen(1), best.reshape(-1))
    assert len(set(best.reshape(-1).tolist())) > 1
    chosen = torch.stack(tried).gather(0, best[None, :, :, None].expand(1, *rows.shape))[0]
    assert torch.equal(choice.rows(), chosen)


def test_of_a_whole_tensor_one_candidate_is_chosen() -> None:
    rows, hessian, grid = case()
    choice = RangeChoice(hessian, rows, torch.zeros(rows.shape, dtype=torch.int64))
    tried = candidates(rows, grid)
    for candidate in tried:
        choice.add(candidate)
    costs = [float(cost(candidate, rows, hessian).sum()) for candidate in tried]
    assert choice.chosen(1).tolist() == [costs.index(min(costs))]


def test_blocks_are_chosen_for_the_error_of_their_sum() -> None:
    rows, hessian, grid = case()
    units = (torch.arange(12).reshape(2, 6, 1) * 3 + torch.arange(48) // 16).expand(rows.shape)
    choice = RangeChoice(hessian, rows, units)
    tried = candidates(rows, grid)
    for candidate in tried:
        choice.add(candidate)
    choice.chosen(3)
    found = cost(choice.rows(), rows, hessian)
    alone = torch.stack([cost(candidate, rows, hessian) for candidate in tried]).amin(dim=0)
    assert bool((found <= cost(tried[0], rows, hessian)).all())
    assert float(found.sum()) < float(alone.sum())  # more to choose from than one candidate for a whole row
