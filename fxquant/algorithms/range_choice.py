"""RangeChoice: choose among candidate ranges so that rows rounded with them lose the least."""

import torch


class RangeChoice:
    """Rows of a weight rounded in several ways, from which one way is chosen for each unit of elements.

    A unit is what one range, or several that hang together, covers: all rows, one, or a block of columns of
    one. Columns whose elements belong to the same units are chosen for together, given the choice for the
    other columns; with whole rows as units, the choice is the best there is.

    Args:
        hessian: Moments of the patches, float32 [groups, length, length].
        target: The rows that the chosen ones stand for, [groups, outputs, length].
        units: Number of the unit of each element, int64 of the same shape.
    """

    def __init__(self, hessian: torch.Tensor, target: torch.Tensor, units: torch.Tensor) -> None:
        self._hessian, self._target, self._units = hessian, target.float(), units
        self._candidates: list[torch.Tensor] = []
        self._chosen = units.new_zeros(int(units.max()) + 1)

    def add(self, rows: torch.Tensor) -> None:
        """Add a candidate; the first is what stands before a choice."""
        self._candidates.append(rows.float())

    def rows(self) -> torch.Tensor:
        """Return the rows as they are chosen."""
        index = self._chosen[self._units]
        rows = self._candidates[0].clone()
        for number, candidate in enumerate(self._candidates):
            rows = torch.where(index == number, candidate, rows)
        return rows

    def chosen(self, sweeps: int) -> torch.Tensor:
        """Choose, and return the number of the candidate of each unit, int64 [units]."""
        classes = self._classes()
        error = self.rows() - self._target
        for _ in range(sweeps if len(classes) > 1 else 1):
            for columns in classes:
                self._choose(columns, error)
        return self._chosen

    def _classes(self) -> list[torch.Tensor]:
        """Return the columns by the units of their elements."""
        flat = self._units.flatten(0, 1)
        numbers = torch.unique(flat, dim=1, return_inverse=True)[1]
        return [torch.nonzero(numbers == number)[:, 0] for number in range(int(numbers.max()) + 1)]

    def _choose(self, columns: torch.Tensor, error: torch.Tensor) -> None:
        """Choose for the units of some columns, and write what is then wrong with them."""
        units = self._units[..., columns[0]]
        own = self._hessian[:, columns[:, None], columns]
        held = error[..., columns]
        pull = error @ self._hessian[..., columns] - held @ own  # of the other columns
        costs = []
        for candidate in self._candidates:
            tried = candidate[..., columns] - self._target[..., columns]
            cost = ((tried @ own + 2 * pull) * tried).sum(dim=2)
            costs.append(cost.new_zeros(len(self._chosen)).index_add_(0, units.reshape(-1), cost.reshape(-1)))
        best = torch.stack(costs).argmin(dim=0)
        present = torch.unique(units)
        self._chosen[present] = best[present]
        for number, candidate in enumerate(self._candidates):
            is_chosen = (best[units] == number)[..., None]
            tried = candidate[..., columns] - self._target[..., columns]
            held = torch.where(is_chosen, tried, held)
        error[..., columns] = held
