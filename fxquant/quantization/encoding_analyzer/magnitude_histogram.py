"""Histograms of magnitudes that begin at zero and grow by whole bins, as NVIDIA's torch histograms do."""

from dataclasses import dataclass

import torch
from typing_extensions import Self

from fxquant.quantization.encoding_analyzer.counting import count_between


@dataclass(frozen=True, kw_only=True, eq=False)
class MagnitudeHistograms:
    """n histograms, one a row, of which some may have more bins than others."""

    counts: torch.Tensor
    """Float32 [n, most bins]; zero beyond the bins of a row."""
    edges: tuple[torch.Tensor, ...]
    """Of each row: float32 [bins + 1], evenly spaced from 0. torch.arange may add one more after growing."""
    num_bins: tuple[int, ...]
    """Of each row."""

    @classmethod
    def of(cls, rows: torch.Tensor, num_bins: int) -> Self:
        """Count magnitudes into bins from 0 to the largest of each row.

        Args:
            rows: Float32 [n, m], not negative, m at least 1.
            num_bins: Number of bins, at least 1.
        """
        top = rows.amax(dim=1)
        return cls(
            counts=count_between(rows, torch.zeros_like(top), top, num_bins),
            edges=tuple(_first_edges(end, num_bins, rows.device) for end in top.tolist()),
            num_bins=(num_bins,) * len(rows),
        )

    def added(self, rows: torch.Tensor) -> Self:
        """Return the histograms with further rows; one that they do not fit gets further bins of its width.

        A row of nothing but zeros has bins of no width, and begins anew.

        Args:
            rows: Float32 [n, m], not negative, m at least 1.
        """
        edges, num_bins, before = list(self.edges), list(self.num_bins), self.counts
        top = rows.amax(dim=1)
        ends = torch.stack([row[-1] for row in edges])
        for row in (top > ends).nonzero()[:, 0].tolist():
            width = edges[row][1] - edges[row][0]
            if width > 0:
                num_bins[row] = int((top[row] / width).ceil())
                edges[row] = torch.arange(0, float(top[row] + width), float(width), device=rows.device)
            else:
                edges[row] = _first_edges(float(top[row]), num_bins[row], rows.device)
                before = before.clone()
                before[row, 0], before[row, 1:] = before[row].sum(), 0
        ends = torch.stack([row[-1] for row in edges])
        counts = torch.nn.functional.pad(before, (0, max(num_bins) - before.shape[1]))
        for own in set(num_bins):
            which = [row for row, number in enumerate(num_bins) if number == own]
            found = count_between(rows[which], torch.zeros_like(ends[which]), ends[which], own)
            counts[which, :own] += found
        return type(self)(counts=counts, edges=tuple(edges), num_bins=tuple(num_bins))

    def even_edges(self) -> torch.Tensor:
        """Return the edges of all rows, [n, most bins + 1]: beyond the bins of a row they go on evenly."""
        length = self.counts.shape[1] + 1
        if all(number + 1 == length for number in self.num_bins):
            return torch.stack([row[:length] for row in self.edges])
        padded = []
        for row, number in zip(self.edges, self.num_bins, strict=True):
            beyond = torch.arange(1, length - number, device=row.device) * (row[1] - row[0])
            padded.append(torch.cat((row[: number + 1], row[number] + beyond)))
        return torch.stack(padded)


def even_histograms(rows: torch.Tensor, num_bins: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what numpy.histogram(row, num_bins, range=(0, row.max())) does for each row, in one go.

    A value belongs to the bin between whose edges it lies, as numpy has it: a guess by division is corrected.

    Args:
        rows: Float32 [n, m], not negative, m at least 1.
        num_bins: Number of bins.

    Returns:
        Counts, int64 [n, num_bins], and edges, float32 [n, num_bins + 1]; from -0.5 to 0.5 for zeros alone.
    """
    top = rows.amax(dim=1, keepdim=True)
    is_zero = top == 0
    first, last = torch.where(is_zero, -0.5, 0.0), torch.where(is_zero, 0.5, top)
    width = (last - first) / num_bins
    edges = torch.arange(num_bins + 1, dtype=rows.dtype, device=rows.device) * width + first
    edges[:, -1:] = last
    found = ((rows - first) / (last - first) * num_bins).long().clamp_(0, num_bins - 1)
    found -= (rows < edges.gather(1, found)).long()
    found += ((rows >= edges.gather(1, found + 1)) & (found != num_bins - 1)).long()
    counts = torch.zeros(len(rows), num_bins, dtype=torch.int64, device=rows.device)
    return counts.scatter_add_(1, found, torch.ones_like(found)), edges


def _first_edges(end: float, num_bins: int, device: torch.device) -> torch.Tensor:
    return torch.linspace(0, end, num_bins + 1, device=device)
