"""Channels: what the layers of a model read, in float: ranges of channels, and some rows as they are."""

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from fxquant.algorithms.layers import Layer
from fxquant.calibration import CalibrationInterpreter, Signature, rejected
from fxquant.calibration.channel_ranges import ChannelRanges
from fxquant.errors import FxQuantError
from fxquant.graph import Example

_MOST_ROWS = 1024


class Channels:
    """Lowest and highest value of each channel of a tensor, and rows of it.

    Args:
        axis: The axis that holds channels, from the end.
        most: How many rows of a batch are kept.
    """

    def __init__(self, axis: int, most: int) -> None:
        self._axis = axis
        self._most = most
        self._ranges = ChannelRanges(axis)
        self._rows: list[torch.Tensor] = []

    def update(self, tensor: torch.Tensor) -> None:
        """Take in a tensor."""
        self._ranges.add(self._ranges.look(tensor.detach()))
        rows = tensor.detach().movedim(self._axis, -1).flatten(0, -2).float()
        stride = max(1, -(-len(rows) // self._most))
        self._rows.append(rows[::stride].clone())

    @functools.cached_property
    def ends(self) -> torch.Tensor:
        """Lowest and highest values, float32 [2, channels]; to be asked for when all are in."""
        ends = self._ranges.ends()
        assert ends is not None, "a layer reads as many channels in every batch"
        return ends

    @functools.cached_property
    def rows(self) -> torch.Tensor:
        """Up to 1,024 rows, evenly from all batches, float32 [rows, channels]; likewise."""
        return torch.cat(self._rows)


def channels_of(gm: fx.GraphModule, layers: Iterable[Layer], calls: list[Example]) -> dict[fx.Node, Channels]:
    """Return the channels of what layers read, by the node that they read, of one run of the float model.

    Raises:
        BatchError: If the model rejects a batch.
    """
    axes = {layer.input: layer.input_axis for layer in layers}
    most = max(1, _MOST_ROWS // max(len(calls), 1))
    found = {node: Channels(axis, most) for node, axis in axes.items()}

    class Watcher(CalibrationInterpreter):
        def run_node(self, n: fx.Node) -> Any:
            value = super().run_node(n)
            if n in found:
                found[n].update(value)
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
