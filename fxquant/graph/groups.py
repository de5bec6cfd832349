"""Rows of a tensor taken apart into groups and joined again, as mixtures of experts do."""

import itertools
from collections.abc import Sequence

import torch

from fxquant.graph.recordable import recordable


@recordable
def split_groups(input: torch.Tensor, ends: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the rows of each group; a group may have none.

    Args:
        input: [rows, ...], sorted by group.
        ends: [groups], where each group's rows end; rows behind the last end belong to none.
    """
    bounds = [0, *ends.tolist()]
    return tuple(input[start:end] for start, end in itertools.pairwise(bounds))


@recordable
def join_groups(parts: Sequence[torch.Tensor], input: torch.Tensor) -> torch.Tensor:
    """Return the rows of all groups, and zeros for rows that belong to none.

    Args:
        parts: The groups, each [rows of the group, ...].
        input: What was taken apart; the result has as many rows.
    """
    joined = torch.cat(list(parts))
    missing = input.shape[0] - joined.shape[0]
    return torch.cat([joined, joined.new_zeros(missing, *joined.shape[1:])]) if missing else joined
