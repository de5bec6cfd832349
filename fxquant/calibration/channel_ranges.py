"""ChannelRanges: the smallest and the largest value of each channel of a tensor."""

from collections.abc import Mapping
from typing import Any

import torch

_IMAGE_DIMS = 4  # from here on axis 1 holds channels where no op says otherwise: [n, channels, h, w]


class ChannelRanges:
    """Running ranges of the channels of one tensor; together with ``merge`` a commutative monoid.

    A tensor whose number of channels is not the same in all batches has none.

    Args:
        axis: The axis that holds channels; None for axis 1 of tensors of four dimensions or more, the last
            one of others.
    """

    def __init__(self, axis: int | None = None) -> None:
        self.axis = axis
        self._ends: torch.Tensor | None = None
        self._is_uneven = False

    def look(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the ends of the channels of a tensor that has elements: [2, channels], float32."""
        axis = self.axis if self.axis is not None else 1 if tensor.dim() >= _IMAGE_DIMS else -1
        if not -tensor.dim() <= axis < tensor.dim():
            return torch.stack(torch.aminmax(tensor)).float().reshape(2, 1)
        rest = [other for other in range(tensor.dim()) if other != axis % tensor.dim()]
        if not rest:
            return torch.stack((tensor, tensor)).float()
        return torch.stack((tensor.amin(rest), tensor.amax(rest))).float()

    def add(self, ends: torch.Tensor) -> None:
        """Add what ``look`` returned."""
        if self._is_uneven:
            return
        if self._ends is None:
            self._ends = ends
        elif self._ends.shape == ends.shape:
            low, high = torch.minimum(self._ends[0], ends[0]), torch.maximum(self._ends[1], ends[1])
            self._ends = torch.stack((low, high))
        else:
            self._ends, self._is_uneven = None, True

    def ends(self) -> torch.Tensor | None:
        """Return the smallest and the largest values, [2, channels]; None where there are none."""
        return self._ends

    def merge(self, other: "ChannelRanges") -> None:
        """Add what was seen elsewhere."""
        if other._is_uneven:
            self._ends, self._is_uneven = None, True
        elif other._ends is not None:
            self.add(other._ends)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {"axis": self.axis, "ends": self._ends, "is_uneven": self._is_uneven}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "ChannelRanges":
        """Return what ``to_dict`` was called on.

        Raises:
            KeyError, TypeError, ValueError: If the values are not what it returned.
        """
        found = cls(None if values["axis"] is None else int(values["axis"]))
        ends = values["ends"]
        if ends is not None and (not isinstance(ends, torch.Tensor) or ends.dim() != 2 or len(ends) != 2):
            raise ValueError("The ranges of channels are not a tensor [2, channels].")
        found._ends, found._is_uneven = ends, bool(values["is_uneven"])
        return found
