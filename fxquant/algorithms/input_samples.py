"""Channels: what the layers of a model read, in float: ranges of channels, and some rows as they are."""

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from fxquant.algorithms.layers import Layer
from fxquant.calibration import CalibrationInterpreter, Signature, rejected
from fxquant.errors import FxQuantError
from fxquant.graph import Example

_MOST_ROWS = 1024


class Channels:
    """Lowest and highest value of each channel of a tensor, and rows of it.

    Attributes:
        low: Lowest values, float32 [channels].
        high: Highest values, likewise.
        rows: Up to 1,024 rows, evenly from all batches, float32 [rows, channels].
    """

    def __init__(self, most: int) -> None:
        self.low = torch.empty(0)
        self.high = torch.empty(0)
        self._rows: list[torch.Tensor] = []
        self._most = most  # of a batch

    def update(self, tensor: torch.Tensor, axis: int) -> None:
        """Take in a tensor whose channels lie along an axis."""
        rows = tensor.detach().movedim(axis, -1).reshape(-1, tensor.shape[axis]).float()
        low, high = rows.amin(dim=0), rows.amax(dim=0)
        is_first = not self.low.numel()
        self.low = low if is_first else torch.minimum(self.low, low)
        self.high = high if is_first else torch.maximum(self.high, high)
        stride = max(1, -(-len(rows) // self._most))
        self._rows.append(rows[::stride].clone())

    @functools.cached_property
    def rows(self) -> torch.Tensor:
        """Rows of all batches; to be asked for when all are in."""
        return torch.cat(self._rows)

    @property
    def amax(self) -> torch.Tensor:
        """Largest magnitude of each channel."""
        return torch.maximum(self.low.abs(), self.high.abs())


def channels_of(gm: fx.GraphModule, layers: Iterable[Layer], calls: list[Example]) -> dict[fx.Node, Channels]:
    """Return the channels of what layers read, by the node that they read, of one run of the float model.

    Raises:
        BatchError: If the model rejects a batch.
    """
    axes = {layer.input: layer.input_axis for layer in layers}
    most = max(1, _MOST_ROWS // max(len(calls), 1))
    found = {node: Channels(most) for node in axes}

    class Watcher(CalibrationInterpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n in axes:
                found[n].update(value, axes[n])
            return value

    watcher, signature = Watcher(gm), Signature(gm)
    for index, call in enumerate(calls):
        args, kwargs = call.copied()
        values = signature.bind(Example(args=args, kwargs=kwargs)).values()
        try:
            with torch.no_grad():
                watcher.run_all(*values)
        except FxQuantError:
            raise
        except Exception as error:  # whatever the model raises on data that it does not take
            raise rejected(f"batch {index + 1}", watcher.last_layer(), error) from error
    return found
