"""Which grid adds the least noise to the values of a histogram, from one term for each of its codes."""

import torch

from fxquant.quantization.encoding_analyzer.code_gains import CodeGains

# Numbers worked on at a time: some copies of them fit the cache; elsewhere memory limits.
_CHUNK = {"cpu": 2**15}
_CHUNK_ELSEWHERE = 2**24
_ROUNDING = 1e-12  # of the sum of squares; several hundred times what a noise is rounded by


def least_noise(
    counts: torch.Tensor,
    first: torch.Tensor,
    deltas: torch.Tensor,
    offsets: torch.Tensor,
    num_steps: int,
    gamma: float,
) -> torch.Tensor:
    """Return the number of the grid with the least noise, the first of equals, on each of n histograms.

    The noise is that of ``expected_noise``, in float64; where a value lies just between a code and clipping,
    which of them it gets may differ. Clipping costs four look-ups, and a grid that loses more by it alone
    than another one by clipping and rounding is not looked at further.

    Args:
        counts: Float64 [n, bins].
        first: Number of the first bin, int64 [n]. Bins are one wide, which is the unit of the scales.
        deltas: Scales, float64 [n, K].
        offsets: Offsets, from -num_steps to 0, float64 [n, K].
        num_steps: Number of steps of the grids.
        gamma: Weight of clipping, at least 0.

    Returns:
        Numbers below K, int64 [n, 1].
    """
    rows = max(1, _chunk(deltas) // counts.shape[1])
    groups = (torch.split(part, rows) for part in (counts, first, deltas, offsets))
    return torch.cat(
        [
            _least(CodeGains.of_centered_values(count, start), delta, offset, num_steps, gamma)
            for count, start, delta, offset in zip(*groups, strict=True)
        ]
    )


def noise_of(
    gains: CodeGains,
    clipped: torch.Tensor,
    deltas: torch.Tensor,
    offsets: torch.Tensor,
    num_steps: int,
    gamma: float,
) -> torch.Tensor:
    """Return the noise [n, K] of grids which clip away ``clipped``; all float64."""
    numbers = torch.arange(1, num_steps + 1, dtype=deltas.dtype, device=deltas.device)
    taken = torch.empty_like(deltas)
    size = max(1, _chunk(deltas) // (len(deltas) * num_steps))
    for part in (slice(i, i + size) for i in range(0, deltas.shape[1], size)):
        delta, offset = deltas[:, part, None], offsets[:, part, None]
        boundaries = torch.addcmul((offset - 0.5) * delta, delta, numbers)
        taken[:, part] = gains.at(boundaries, (offset + numbers).clamp_(0, 1)).sum(dim=2)
    noise = torch.addcmul(gains.squares[:, None], taken, deltas, value=-2)
    return noise.add_(clipped, alpha=gamma - 1).clamp_min_(0.0)  # a difference, rounded


def clipping_of(
    gains: CodeGains, deltas: torch.Tensor, offsets: torch.Tensor, num_steps: int
) -> torch.Tensor:
    """Return the sum of squared errors of the values beyond the grids [n, K]."""
    upper = offsets + num_steps
    below = gains.squared_distance((offsets - 0.5) * deltas, offsets * deltas, is_above=False)
    return below + gains.squared_distance((upper + 0.5) * deltas, upper * deltas, is_above=True)


def _least(
    gains: CodeGains, deltas: torch.Tensor, offsets: torch.Tensor, num_steps: int, gamma: float
) -> torch.Tensor:
    clipped = clipping_of(gains, deltas, offsets, num_steps)

    def noise(numbers: torch.Tensor) -> torch.Tensor:
        clipping, delta, offset = (part.gather(1, numbers) for part in (clipped, deltas, offsets))
        return noise_of(gains, clipping, delta, offset, num_steps, gamma)

    limit = noise(clipped.argmin(dim=1, keepdim=True)) + _ROUNDING * gains.squares[:, None]
    num_left = int((clipped * gamma <= limit).sum(dim=1).max())
    left = clipped.topk(num_left, dim=1, largest=False).indices.sort(dim=1).values
    return left.gather(1, noise(left).argmin(dim=1, keepdim=True))


def _chunk(values: torch.Tensor) -> int:
    return _CHUNK.get(values.device.type, _CHUNK_ELSEWHERE)
