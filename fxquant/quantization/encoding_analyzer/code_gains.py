"""What each code takes off the squared error of a grid: two or three look-ups a code, however many bins.

A grid with the code 0 alone has the sum of x^2 for its squared error. The code c > 0 of a grid of step s
takes the values beyond b = s * (c - 1/2) from the code c - 1; and as

    (x - (c - 1) * s)^2 - (x - c * s)^2 = 2 * s * (x - b)

it takes 2 * s * U(b) off, U(b) being the sum of x - b over the values x above b. Below zero it is likewise
2 * s * D(b), D(b) being the sum of b - x over those below b. So a grid of the codes L <= 0 <= H leaves

    sum of x^2 - 2*s * (D(s*(L + 1/2)) + .. + D(-s/2) + U(s/2) + .. + U(s*(H - 1/2)))

U and D are polynomials between the edges of bins, or their centers, made of running sums of the counts. No
term is larger than the sum of x^2: rounding costs some 1e-15 of it, and n steps leave about 1 / (12 * n^2).
"""

from dataclasses import dataclass

import torch
from typing_extensions import Self

_SIDE_BY_SIDE = 64  # histograms of which a piece of the table fits the cache


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeGains:
    """U and D of n histograms. The unit is the width of a bin: bin j of a row begins at first + j."""

    start: torch.Tensor
    """Where the first piece would begin, did it not reach down without end; float64 [n, 1]."""
    coefficients: torch.Tensor
    """By power of b, those of each piece of D, then of U: float64 [2 or 3, n, 2 * pieces]."""
    squares: torch.Tensor
    """Sum of x^2, float64 [n]."""
    squares_beyond: torch.Tensor | None
    """For values at centers: sum of x^2 below each piece, then above it; float64 [n, 2 * pieces]."""

    @classmethod
    def of_spread_values(cls, counts: torch.Tensor, first: torch.Tensor) -> Self:
        """Take the values of a bin to be spread evenly in it.

        Args:
            counts: Float64 [n, bins].
            first: Number of the first bin, int64 [n].
        """
        edges = _numbers(counts, first)
        half, shift = counts * 0.5, counts * edges
        squares = shift * edges
        # Pieces: each bin, before and after all. D(b) = b * count below - sum below + the bin's part below b,
        # count * (b - edge)^2 / 2. To get U add the sum of all - b * the number of all.
        below = counts.new_zeros(3, len(counts), counts.shape[1] + 2)
        torch.cumsum(shift + half, dim=1, out=below[0, :, 2:]).neg_()
        torch.cumsum(counts, dim=1, out=below[1, :, 2:])
        totals = below[:, :, -1:].clone()
        below[0, :, 1:-1].add_(squares, alpha=0.5)
        below[1, :, 1:-1].sub_(shift)
        below[2, :, 1:-1] = half
        return cls(
            start=first.double()[:, None] - 1,
            coefficients=torch.cat((below, below - totals), dim=2),
            squares=(squares + shift).add_(counts, alpha=1 / 3).sum(dim=1),
            squares_beyond=None,
        )

    @classmethod
    def of_centered_values(cls, counts: torch.Tensor, first: torch.Tensor) -> Self:
        """Take the values of a bin to lie at its center; arguments as ``of_spread_values``."""
        return cls.of_values(counts, _numbers(counts, first).add_(0.5), first.double() - 0.5)

    @classmethod
    def of_values(cls, counts: torch.Tensor, values: torch.Tensor, start: torch.Tensor) -> Self:
        """Take the values of bin j to be values[j], close to start + 1 + j.

        Where one is on the other side of a boundary than its bin, the error is that of a value which lies at
        the boundary: U and D are continuous.

        Args:
            counts: Float64 [n, bins].
            values: In widths of a bin, float64 [n, bins].
            start: Float64 [n].
        """
        below = counts.new_zeros(3, len(counts), counts.shape[1] + 1)
        moments = counts * values
        torch.cumsum(moments, dim=1, out=below[0, :, 1:]).neg_()
        torch.cumsum(counts, dim=1, out=below[1, :, 1:])
        torch.cumsum(moments * values, dim=1, out=below[2, :, 1:])
        totals = below[:, :, -1:]
        both = torch.cat((below, below - totals), dim=2)
        return cls(
            start=start[:, None],
            coefficients=both[:2],
            squares=totals[2, :, 0],
            squares_beyond=both[2].abs_(),
        )

    def at(self, boundaries: torch.Tensor, is_above: torch.Tensor) -> torch.Tensor:
        """Return U(b) where is_above is 1, D(b) where it is 0.

        Args:
            boundaries: b, float64 [n, ...].
            is_above: 0 or 1, float64, broadcastable against the boundaries.
        """
        points = boundaries.flatten(1)
        *lower, gain = self._look_up(self.coefficients, boundaries, is_above)
        for coefficient in reversed(lower):
            gain = coefficient.addcmul_(gain, points)
        return gain.view(boundaries.shape)

    def summed_above(self, boundaries: torch.Tensor) -> torch.Tensor:
        """Return the sum of U(b) over boundaries that all histograms share, which all start at one place.

        Several times as fast as ``at`` for many histograms: they are worked out side by side.

        Args:
            boundaries: Float64 [m, k].

        Returns:
            Float64 [n, m].
        """
        pieces = self.coefficients.shape[2] // 2
        which = (boundaries - self.start[0]).clamp_(0, pieces - 1).long()
        sums = []
        for part in torch.split(self.coefficients[:2, :, pieces:], _SIDE_BY_SIDE, dim=1):
            moments, numbers = part.transpose(1, 2).contiguous()
            sums.append(torch.nn.functional.embedding_bag(which, moments, mode="sum"))
            sums[-1] += torch.nn.functional.embedding_bag(
                which, numbers, mode="sum", per_sample_weights=boundaries
            )
        return torch.cat(sums, dim=1).T

    def squared_distance(
        self, boundaries: torch.Tensor, points: torch.Tensor, *, is_above: bool
    ) -> torch.Tensor:
        """Return the sum of (x - point)^2 of the values above the boundaries, or below them; [n, m] each."""
        assert self.squares_beyond is not None, "the pieces end in the middle of spread values"
        side = boundaries.new_tensor(is_above)
        moments, counts = self._look_up(self.coefficients, boundaries, side)
        (squares,) = self._look_up(self.squares_beyond[None], boundaries, side)
        sign = 1 if is_above else -1  # D has minus the sum of x and plus their number, U the reverse
        return squares - sign * points * (2 * moments + points * counts)

    def _look_up(
        self, tables: torch.Tensor, boundaries: torch.Tensor, is_above: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """Return what each table [n, 2 * pieces] has for the boundaries, [n, m]."""
        pieces = tables.shape[2] // 2
        start = self.start.view(-1, *[1] * (boundaries.dim() - 1))
        position = (boundaries - start).clamp_(0, pieces - 1).add_(is_above, alpha=pieces)
        return tables.gather(2, position.long().flatten(1).expand(len(tables), -1, -1)).unbind()


def _numbers(counts: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    return first[:, None] + torch.arange(counts.shape[1], dtype=counts.dtype, device=counts.device)
