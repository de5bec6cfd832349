"""The squared error that a grid makes on values spread evenly within the bins of a histogram."""

import torch

# Products of grids and edges worked on at a time: some copies of them fit the cache; elsewhere memory limits.
_CHUNK = {"cpu": 2**16}
_CHUNK_ELSEWHERE = 2**24


def squared_error(
    edges: torch.Tensor,
    density: torch.Tensor,
    minimum: torch.Tensor,
    maximum: torch.Tensor,
    num_steps: int,
    is_symmetric: bool,
) -> torch.Tensor:
    """Return the sum of squared errors of K grids on each of n histograms.

    Within a bin the values are taken to be spread evenly, so the error of a bin with density d (count over
    width) from a to b is d * (F(b) - F(a)), F being an integral of the squared error. With s the scale and v
    the value x clipped to the range of the grid::

        F(x) = s^3 * (r / 12 + (v/s - r)^3 / 3) + (x - v)^3 / 3,    r = round(v / s)

    (each whole step adds s^3 / 12, the started one the cube of its part, and beyond the ends the cube of the
    distance). Unlike the error at bin centers this holds also for grids finer than the bins. Summed by edges:
    the sum of F(edge) * (density left of it - density right of it), in float64, as large terms cancel.

    Args:
        edges: Ends of the bins, [n, bins + 1].
        density: Count over width of each bin, float64 [n, bins].
        minimum: Lower ends of the grids' ranges, at most 0, float64 [n, K]; rounded to a step of the grid.
        maximum: Upper ends, at least 0, float64 [n, K].
        num_steps: Number of steps of the grids.
        is_symmetric: Whether a grid has ceil(num_steps / 2) steps below zero, instead of round(-minimum / s).

    Returns:
        Errors, float64 [n, K]; infinite where a grid has no width.
    """
    scale = (maximum - minimum) / num_steps
    is_flat = scale <= 0
    scale = scale.masked_fill(is_flat, 1.0)
    lowest = (
        torch.full_like(scale, num_steps // 2 - num_steps) if is_symmetric else torch.round(minimum / scale)
    )
    return error_of_grids(edges, density, scale, lowest, num_steps).masked_fill_(is_flat, torch.inf)


def error_of_grids(
    edges: torch.Tensor, density: torch.Tensor, scale: torch.Tensor, lowest: torch.Tensor, num_steps: int
) -> torch.Tensor:
    """Return the errors of ``squared_error`` for grids that are known: float64 [n, K].

    Args:
        edges: Ends of the bins, [n, bins + 1].
        density: Count over width of each bin, float64 [n, bins].
        scale: Steps, positive, float64 [n, K].
        lowest: The lowest code counted from real zero, float64 [n, K].
        num_steps: Number of steps of the grids.
    """
    change = torch.nn.functional.pad(density, (1, 0)) - torch.nn.functional.pad(density, (0, 1))
    points = edges.double()
    step = max(1, _CHUNK.get(edges.device.type, _CHUNK_ELSEWHERE) // points.shape[1] // len(points))
    errors = [
        (_integral(points[:, None], s[..., None], low[..., None], num_steps) * change[:, None]).sum(dim=-1)
        for s, low in zip(torch.split(scale, step, dim=1), torch.split(lowest, step, dim=1), strict=True)
    ]
    return torch.cat(errors, dim=1)


def _integral(x: torch.Tensor, scale: torch.Tensor, lowest: torch.Tensor, num_steps: int) -> torch.Tensor:
    """Return F(x) of ``squared_error`` for grids with the codes lowest .. lowest + num_steps."""
    steps = x / scale
    clipped = steps.clamp(lowest, lowest + num_steps)
    beyond = steps - clipped
    whole = clipped.round()
    part = clipped.sub_(whole)
    cubes = part * part * part + beyond * beyond * beyond
    return cubes.div_(3).add_(whole, alpha=1 / 12).mul_(scale**3)
