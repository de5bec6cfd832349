"""ChannelGraph: which channels of which layers may only be scaled together.

Every channel that a layer gives is a variable, and so is every channel that a layer reads. One run of the
model tells which elements of which tensors belong to which variable: an op that moves values is run on the
numbers of the variables. What an op needs to be scaled alike is united; where an op does not let a factor
pass, its variables are fixed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from fxquant.algorithms.channel_layers import ChannelLayer, channel_layers_of
from fxquant.algorithms.channel_tracer import OUTSIDE, ChannelTracer

_FIXED = 0  # the variable of everything that is not to be scaled


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """The channels that a layer reads, or gives.

    Attributes:
        layer: The layer.
        is_output: Whether these are the channels that it gives.
        inputs: The variable of each channel that the layer reads, [in].
        outputs: The variable of each that it gives, [out].
    """

    layer: ChannelLayer
    is_output: bool
    inputs: torch.Tensor
    outputs: torch.Tensor

    @property
    def channels(self) -> torch.Tensor:
        """The variable of each channel."""
        return self.outputs if self.is_output else self.inputs

    def ranges(self, scales: torch.Tensor) -> torch.Tensor:
        """Return the largest magnitude of a weight in each channel, [channels].

        Args:
            scales: By variable, what its channels are divided by.
        """
        layer = self.layer
        weight = layer.matrices(layer.scaled(scales[self.inputs], 1 / scales[self.outputs]).abs()).amax(-1)
        return weight.amax(2 if self.is_output else 1).reshape(-1)


class ChannelGraph:
    """The variables of a model, found by one run.

    Args:
        gm: The prepared model.
        inputs: The values of its inputs.
        unclips: Whether an op with an upper end counts as the op without one.

    Attributes:
        sides: What layers give and read, in graph order; of a variable that was united with others, the
            number that stands for all.
        fixed: Why a variable is fixed, by its number.
        unclipped: Calls of ops with an upper end, each with the variables that pass.
        num_variables: How many variables there are.
    """

    def __init__(self, gm: fx.GraphModule, inputs: list[Any], unclips: bool = False) -> None:
        layers, self.declined = channel_layers_of(gm)
        self._parents = [_FIXED]
        self._layers = {call: layer for layer in layers for call in layer.calls}
        inside = {layer: self._variables(layer.num_inputs) for layer in layers}
        outside = {layer: self._variables(layer.num_outputs) for layer in layers}
        tracer = ChannelTracer(gm, self._layers, inside, outside, self._unite, unclips)
        tracer.run_all(*inputs)
        self.num_variables = len(self._parents)
        roots = torch.tensor([self._root(index) for index in range(self.num_variables)])
        self.sides = [
            Side(layer=layer, is_output=is_output, inputs=roots[inside[layer]], outputs=roots[outside[layer]])
            for layer in layers
            for is_output in (False, True)
            if is_output or not layer.is_gain
        ]
        self.fixed: dict[int, str] = {int(roots[_FIXED]): OUTSIDE}
        for variables, reason in tracer.fixed:
            for root in torch.unique(roots[variables]).tolist():
                self.fixed.setdefault(root, reason)
        self.unclipped = {node: torch.unique(roots[ids.long()]) for node, ids in tracer.unclipped.items()}

    def sites(self) -> Iterator[list[Side]]:
        """Yield the sides that are scaled together, in order of the first; fixed ones alone."""
        holders: dict[int, list[Side]] = {}
        for side in self.sides:
            for root in self._free(side):
                holders.setdefault(root, []).append(side)
        done: set[Side] = set()
        for side in self.sides:
            if side in done:
                continue
            site, waiting = {side}, [side]
            while waiting:
                near = {other for root in self._free(waiting.pop()) for other in holders[root]}
                waiting += near - site
                site |= near
            done |= site
            yield [other for other in self.sides if other in site]

    def reason(self, side: Side) -> str:
        """Return why no channel of a side can be scaled."""
        return next((self.fixed[int(root)] for root in side.channels if int(root) in self.fixed), "")

    def _free(self, side: Side) -> set[int]:
        return set(side.channels.tolist()) - self.fixed.keys()

    def _variables(self, number: int) -> torch.Tensor:
        first = len(self._parents)
        self._parents.extend(range(first, first + number))
        return torch.arange(first, first + number)

    def _unite(self, one: torch.Tensor, other: torch.Tensor) -> None:
        pairs = torch.unique(torch.stack([one.reshape(-1), other.reshape(-1)], 1).long(), dim=0)
        for left, right in pairs[pairs[:, 0] != pairs[:, 1]].tolist():
            first, last = sorted((self._root(left), self._root(right)))
            self._parents[last] = first

    def _root(self, index: int) -> int:
        while self._parents[index] != index:
            self._parents[index] = self._parents[self._parents[index]]
            index = self._parents[index]
        return index
