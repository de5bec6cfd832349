"""The noise that a grid adds to the values of a histogram."""

import torch

# Products of grids and bins worked on at a time: some copies of them fit the cache; elsewhere memory limits.
_CHUNK = {"cpu": 2**18}
_CHUNK_ELSEWHERE = 2**24


def expected_noise(
    centers: torch.Tensor,
    counts: torch.Tensor,
    deltas: torch.Tensor,
    offsets: torch.Tensor,
    num_steps: int,
    gamma: float,
) -> torch.Tensor:
    """Return the noise of K grids on each of n histograms, every value taken to lie at its bin's center.

    With x a center and c its count, s the scale and o the offset of a grid of N steps::

        q     = round(x / s - o)
        noise = sum over bins of c * (s * (clamp(q, 0, N) + o) - x)^2 * (gamma where q is clamped, else 1)

    Each operation is rounded to float32 in this order, as AIMET does, and bins are summed last.

    Args:
        centers: Float32 [n, bins].
        counts: [n, bins].
        deltas: Scales, float32 [n, K].
        offsets: Offsets, [n, K].
        num_steps: Number of steps of the grids.
        gamma: Weight of clipping.

    Returns:
        Noise, float32 [n, K].
    """
    num_ranges, num_grids = deltas.shape
    chunk = _CHUNK.get(deltas.device.type, _CHUNK_ELSEWHERE) // centers.shape[1]
    grids_together = max(1, min(num_grids, chunk))
    ranges_together = max(1, chunk // num_grids)
    counts = counts.to(deltas.dtype)
    offsets = offsets.to(deltas.dtype)
    noise = torch.empty_like(deltas)
    for i in range(0, num_ranges, ranges_together):
        ranges = slice(i, i + ranges_together)
        for j in range(0, num_grids, grids_together):
            part = ranges, slice(j, j + grids_together)
            noise[part] = _noise(
                centers[ranges, None], counts[ranges, None], deltas[part], offsets[part], num_steps, gamma
            )
    return noise


def _noise(
    centers: torch.Tensor,
    counts: torch.Tensor,
    deltas: torch.Tensor,
    offsets: torch.Tensor,
    num_steps: int,
    gamma: float,
) -> torch.Tensor:
    deltas, offsets = deltas[:, :, None], offsets[:, :, None]
    codes = (centers / deltas).sub_(offsets).round_()
    clamped = codes.clamp(0, num_steps)
    is_clipped = codes != clamped
    error = clamped.add_(offsets).mul_(deltas).sub_(centers).square_().mul_(counts)
    if gamma != 1.0:
        error = torch.where(is_clipped, error * gamma, error)
    return error.sum(dim=-1)
