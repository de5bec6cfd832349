"""gptq_rows: round the rows of a weight one column after the other, and let the rest make up for the error.

Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
algorithm 1. With H = X^T X of the patches X and U the upper Cholesky factor of (H + damping)^-1, column j is
rounded to q_j, and every later column k gets::

    w_k -= (w_j - q_j) / U_jj * U_jk

which is the least-squares answer of the columns that are still free.
"""

from dataclasses import dataclass

import torch

from fxquant.quantization import functional

_TINY = 1e-30  # a column that meets nothing has no gradient either


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The grid of each weight of some rows.

    Attributes:
        scale: Steps, of the rows' shape.
        offset: Offsets, likewise.
        qmin: Lowest code.
        qmax: Highest code.
    """

    scale: torch.Tensor
    offset: torch.Tensor
    qmin: int
    qmax: int

    def snapped(self, rows: torch.Tensor, columns: object = slice(None)) -> torch.Tensor:
        """Return the nearest grid values of some columns of the rows."""
        scale, offset = self.scale[..., columns], self.offset[..., columns]  # type: ignore[index]  # a slice or indices
        return functional.quantize_dequantize(rows, scale, offset, self.qmin, self.qmax)


def gptq_rows(
    rows: torch.Tensor,
    hessian: torch.Tensor,
    grid: Grid,
    *,
    damping: float = 0.01,
    block: int = 128,
    act_order: bool = True,
) -> torch.Tensor:
    """Return rows on their grid, with an output error that is small for the patches of the Hessian.

    Args:
        rows: [groups, outputs, length].
        hessian: Sum of patch^T patch, [groups, length, length], float32.
        grid: Of [groups, outputs, length].
        damping: What is added to the diagonal, as a share of its mean.
        block: Columns that are rounded before the others hear of it.
        act_order: Whether the columns that meet the largest inputs are rounded first.
    """
    diagonal = hessian.diagonal(dim1=1, dim2=2)
    is_dead = diagonal <= 0  # never meets anything but zeros: any value will do
    order = diagonal.argsort(dim=1, descending=True) if act_order else _in_order(diagonal)
    factor = _factor(hessian, is_dead, order, damping)
    free = rows.masked_fill(is_dead[:, None], 0.0).gather(2, _for_rows(order, rows)).float().contiguous()
    steps = Grid(
        scale=grid.scale.expand_as(rows).gather(2, _for_rows(order, rows)),
        offset=grid.offset.expand_as(rows).gather(2, _for_rows(order, rows)),
        qmin=grid.qmin,
        qmax=grid.qmax,
    )
    length = rows.shape[2]
    for start in range(0, length, block):
        end = min(start + block, length)
        errors = torch.empty_like(free[..., start:end])
        for column in range(start, end):
            own = slice(column, column + 1)
            snapped = steps.snapped(free[..., own], own)
            error = (free[..., own] - snapped) / factor[:, own, own]
            free[..., own] = snapped
            free[..., column + 1 : end].baddbmm_(error, factor[:, own, column + 1 : end], alpha=-1)
            errors[..., column - start : column - start + 1] = error
        free[..., end:].baddbmm_(errors, factor[:, start:end, end:], alpha=-1)
    return free.gather(2, _for_rows(order.argsort(dim=1), rows)).to(rows.dtype)


def _factor(
    hessian: torch.Tensor, is_dead: torch.Tensor, order: torch.Tensor, damping: float
) -> torch.Tensor:
    """Return the upper Cholesky factor of the inverse of the damped Hessian, columns in an order."""
    index = order[:, :, None].expand_as(hessian)
    ordered = hessian.double().gather(1, index).gather(2, index.mT)
    diagonal = ordered.diagonal(dim1=1, dim2=2)
    mean = diagonal.mean(dim=1, keepdim=True)
    added = damping * torch.where(mean > 0, mean, torch.ones_like(mean))
    diagonal += added + is_dead.gather(1, order) * mean
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
    factor: torch.Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor.float()


def _in_order(diagonal: torch.Tensor) -> torch.Tensor:
    return torch.arange(diagonal.shape[1], device=diagonal.device).expand(diagonal.shape)


def _for_rows(order: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return order[:, None].expand(rows.shape)


def refined_rows(
    snapped: torch.Tensor,
    target: torch.Tensor,
    hessian: torch.Tensor,
    grid: Grid,
    sweeps: int,
    block: int,
    ends: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Return rows of which no single weight can be moved on the grid to lower the error, or nearly so.

    Coordinate descent on ``(q - w) H (q - w)^T``: column j gets the grid value next to ``q_j - r_j / H_jj``,
    r being the gradient ``(q - w) H``; a sweep visits all columns once.

    Args:
        snapped: Rows on the grid to begin with, [groups, outputs, length].
        target: The rows they stand for.
        hessian: Moments of the patches, [groups, length, length].
        grid: The grid of each element.
        sweeps: How often every column is visited.
        block: Columns that are visited before the others hear of it.
        ends: Lowest and highest value that each weight may have; None for those of the grid.
    """
    free, length = snapped.float().clone(), snapped.shape[2]
    curvature = hessian.diagonal(dim1=1, dim2=2)
    gradient = (free - target.float()) @ hessian
    for start in [start for _ in range(sweeps) for start in range(0, length, block)]:
        end = min(start + block, length)
        own = gradient[..., start:end].clone()
        moved = torch.zeros_like(own)
        for column in range(start, end):
            at = slice(column, column + 1)
            pull = own[..., column - start : column - start + 1] / curvature[:, None, at].clamp_min(_TINY)
            wanted = free[..., at] - pull
            if ends is not None:
                wanted = wanted.clamp(ends[0][..., at], ends[1][..., at])
            new = grid.snapped(wanted, at)
            step = new - free[..., at]
            free[..., at] = new
            moved[..., column - start : column - start + 1] = step
            own.baddbmm_(step, hessian[:, at, start:end])
        gradient.baddbmm_(moved, hessian[:, start:end])
    return free.to(snapped.dtype)
