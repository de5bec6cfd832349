"""The search for the grid with the least squared error, among all offsets and scales about 1/1000 apart."""

import functools

import torch

from fxquant.quantization.encoding_analyzer.code_gains import CodeGains

# Products of grids and codes worked on at a time: some copies of them fit the cache; elsewhere memory limits.
_CHUNK = {"cpu": 2**16}
_CHUNK_ELSEWHERE = 2**24
_BASINS = 3  # best scales of the scan that are searched up to their neighbours: the error has many minima
_POINTS = 12  # scales tried in one of them, and then around the best one


def find_best_grids(
    gains: CodeGains, widest: torch.Tensor, lowest: torch.Tensor, num_steps: int, *, may_shift: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scale and the lowest code of the grid with the least squared error on each of n histograms.

    Scans the scales from the widest to 1/2048 of it, about one bin, then between the neighbours of the best
    ones, then around the best. Every scale is tried with every offset: ``CodeGains`` has them all for the
    price of two.

    Args:
        gains: Of the histograms, whose bin width is the unit of the scales.
        widest: Scale that covers all values, float64 [n].
        lowest: Lowest code that covers them with it, float64 [n], from -num_steps to 0. The two are the
            answer unless another grid is better.
        num_steps: Number of steps of the grids.
        may_shift: Whether the lowest code may change.
    """
    grids = Grids(gains, lowest, num_steps, may_shift=may_shift)
    scan = widest[:, None] * widest.new_tensor(_shares(num_steps))
    errors = grids.squared_errors(scan)
    start = (lowest[:, None].long() + num_steps).clamp_(0, errors.shape[2] - 1)
    best = torch.stack((widest, start[:, 0], errors[:, 0].gather(1, start)[:, 0]))
    best, _ = _better(best, scan, errors)
    basins = errors.amin(dim=2).topk(_BASINS, dim=1, largest=False).indices
    ends = scan.gather(1, torch.cat((basins - 1, basins + 1), dim=1).clamp_(0, scan.shape[1] - 1))
    wider, narrower = ends[:, :_BASINS, None], ends[:, _BASINS:, None]
    shifts = torch.linspace(1, -1, _POINTS + 2, dtype=scan.dtype, device=scan.device)[1:-1]
    tried = ((wider + narrower) / 2 + (wider - narrower) / 2 * shifts).flatten(1)
    best, where = _better(best, tried, grids.squared_errors(tried))
    gap = (tried[:, ::_POINTS] - tried[:, 1::_POINTS]).gather(1, where[:, None] // _POINTS)
    tried = torch.minimum(best[0, :, None] + gap * shifts, widest[:, None])
    best, _ = _better(best, tried, grids.squared_errors(tried))
    return best[0], best[1] - num_steps if may_shift else lowest


class Grids:
    """The squared errors of grids of any scale.

    Args:
        gains: Of n histograms, whose bin width is the unit of the scales.
        lowest: Lowest codes, float64 [n], from -num_steps to 0.
        num_steps: Number of steps of a grid.
        may_shift: Whether to take all lowest codes from -num_steps to 0 instead of the given ones.
    """

    def __init__(self, gains: CodeGains, lowest: torch.Tensor, num_steps: int, *, may_shift: bool) -> None:
        self.gains = gains
        self.num_steps = num_steps
        self.may_shift = may_shift
        if may_shift:
            codes = torch.arange(-num_steps, num_steps + 1, dtype=lowest.dtype, device=lowest.device)[None]
        else:
            codes = lowest[:, None] + torch.arange(1, num_steps + 1, dtype=lowest.dtype, device=lowest.device)
        self._is_above = codes[:, None].clamp(0, 1)
        self._codes = codes[:, None] - 0.5

    def squared_errors(self, scales: torch.Tensor) -> torch.Tensor:
        """Return the squared errors for scales [n, K]: float64 [n, K, number of lowest codes, rising]."""
        found = self.gains.at(scales[:, :, None] * self._codes, self._is_above)
        if self.may_shift:
            running = found.cumsum_(dim=2)
            taken = running[:, :, self.num_steps :] - running[:, :, : self.num_steps + 1]
        else:
            taken = found.sum(dim=2, keepdim=True)
        return torch.addcmul(self.gains.squares[:, None, None], taken, scales[:, :, None], value=-2)


def ranges_together(counts: torch.Tensor, num_steps: int) -> int:
    """Return how many rows of counts ``find_best_grids`` is best given at a time."""
    size = max(len(_shares(num_steps)) * 2 * num_steps, counts.shape[1])
    return max(1, _CHUNK.get(counts.device.type, _CHUNK_ELSEWHERE) // size)


@functools.lru_cache(maxsize=8)
def _shares(num_steps: int) -> list[float]:
    """Return shares of the widest scale: evenly spaced to a quarter, then in equal ratios to 1/2048.

    The fewer codes, the more rugged the error, and the cheaper a grid.
    """
    fineness = min(8, max(1, 256 // (num_steps + 1)))
    even = [i / (32 * fineness) for i in range(32 * fineness, 8 * fineness, -1)]
    return even + [2.0 ** (-2 - i / (3 * fineness)) for i in range(27 * fineness + 1)]


def _better(
    best: torch.Tensor, scales: torch.Tensor, errors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scale, offset's number and error of the best so far, [3, n], and which scale was best, [n]."""
    error, which = errors.flatten(1).min(dim=1)
    where = which // errors.shape[2]
    found = torch.stack((scales.gather(1, where[:, None])[:, 0], which % errors.shape[2], error))
    return torch.where(error < best[2], found, best), where
