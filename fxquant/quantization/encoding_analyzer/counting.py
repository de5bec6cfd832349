"""Counting elements into bins, many histograms at once.

A chunk of rows at a time is turned into bin numbers in place and counted by ``torch.bincount``: chunks fit
the processor's cache, which makes this faster than ``torch.histc``, and rows need no loop of their own.
"""

from collections.abc import Callable
from functools import reduce

import torch

# Elements turned into bin numbers at a time: some copies of them fit the cache; elsewhere memory limits.
_CHUNK = {"cpu": 2**18}
_CHUNK_ELSEWHERE = 2**24
_LARGEST_INT16 = 2**15 - 1

Coder = Callable[[torch.Tensor, slice], torch.Tensor]
"""Bin numbers of a piece of some rows, float [rows, elements] >= 0; fractions are cut off."""


def count(rows: torch.Tensor, coder: Coder, num_codes: int) -> torch.Tensor:
    """Return how often each bin number occurs in each row: int64 [n, num_codes].

    Args:
        rows: Float tensor [n, m], m at least 1.
        coder: Maps a piece of rows[which] to bin numbers below num_codes, in a fresh buffer.
        num_codes: Number of bins.
    """
    chunk = _CHUNK.get(rows.device.type, _CHUNK_ELSEWHERE)
    num_rows, length = rows.shape
    together = max(1, chunk // max(length, num_codes))
    parts = []
    for start in range(0, num_rows, together):
        which = slice(start, start + together)
        pieces = torch.split(rows[which], max(1, chunk // together), dim=1)
        parts.append(reduce(torch.add, (_count_piece(coder(piece, which), num_codes) for piece in pieces)))
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def count_between(rows: torch.Tensor, low: torch.Tensor, high: torch.Tensor, num_bins: int) -> torch.Tensor:
    """Return histograms of equal bins between low and high, by the rule of ``torch.histc``.

    An element x belongs to bin ``floor((x - low) * num_bins / (high - low))``, each operation rounded to
    float32; the last bin includes high. Elements outside count in the bin at their end; NaN counts nowhere.

    Args:
        rows: Float tensor [n, m].
        low: Left end of the first bin of each row, float32 [n].
        high: Right end of the last bin, float32 [n]; where it equals low, all counts are in one bin.
        num_bins: Number of bins.

    Returns:
        Counts, float32 [n, num_bins]: whole numbers, exact up to 2^24.
    """
    rows = rows.float() if rows.dtype == torch.float64 else rows
    low, width = low[:, None], (high - low)[:, None]
    width = torch.where(width > 0, width, 1.0)

    def code(piece: torch.Tensor, which: slice) -> torch.Tensor:
        numbers = piece.sub(low[which]).mul_(num_bins).div_(width[which])
        return numbers.clamp_(0, num_bins).nan_to_num_(nan=num_bins + 1)

    counts = count(rows, code, num_bins + 2)
    counts[:, num_bins - 1] += counts[:, num_bins]
    return counts[:, :num_bins].float()


def may_wait(tensor: torch.Tensor) -> bool:
    """Whether asking for a tensor's values costs nothing; elsewhere the program would wait for the device."""
    return tensor.device.type == "cpu"


def finite_range(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return minimum and maximum of the finite elements of each row, [n]; (inf, -inf) where none is."""
    if len(rows) == 1:
        minimum, maximum = (end.reshape(1) for end in torch.aminmax(rows))
    else:
        minimum, maximum = rows.amin(dim=1), rows.amax(dim=1)
    if may_wait(rows) and bool((minimum.isfinite() & maximum.isfinite()).all()):
        return minimum, maximum
    is_odd = ~rows.isfinite()
    return rows.masked_fill(is_odd, torch.inf).amin(dim=1), rows.masked_fill(is_odd, -torch.inf).amax(dim=1)


def _count_piece(numbers: torch.Tensor, num_codes: int) -> torch.Tensor:
    """Return counts int64 [rows, num_codes] of bin numbers [rows, elements]."""
    if not may_wait(numbers):
        return torch.stack([torch.histc(row, num_codes, 0, num_codes) for row in numbers]).long()
    if len(numbers) == 1:
        narrow = torch.int16 if num_codes <= _LARGEST_INT16 else torch.int32
        return torch.bincount(numbers.to(narrow).flatten(), minlength=num_codes)[None]
    flat = numbers.to(torch.int32)
    flat += torch.arange(0, len(numbers) * num_codes, num_codes, device=flat.device, dtype=torch.int32)[
        :, None
    ]
    return torch.bincount(flat.flatten(), minlength=len(numbers) * num_codes).reshape(-1, num_codes)
