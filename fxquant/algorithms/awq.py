"""Awq: spend the grid of weights on the input channels that carry most.

Lin et al. 2023, "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration",
section 3.2. With a_c the mean magnitude of input channel c::

    s_c = a_c ** alpha        x W^T = (x / s) (W s)^T

Weights that meet large inputs get, relative to themselves, smaller steps. Layers that read
one tensor share s.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import fx

from fxquant.algorithms.base import Algorithm
from fxquant.algorithms.context import Context
from fxquant.algorithms.input_groups import input_groups
from fxquant.algorithms.layers import Layer
from fxquant.algorithms.layerwise import grid_of
from fxquant.algorithms.moments import Moments, moments_of
from fxquant.algorithms.smoothing import Division, covering, divide_input
from fxquant.algorithms.streams import Stage, in_turn
from fxquant.algorithms.structure import keep_structure, restructured
from fxquant.calibration.channel_ranges import ChannelRanges
from fxquant.quantization.affine import QuantizeDequantize

_SMALLEST = 1e-4
_FINE_BITS = 16


@dataclass(frozen=True, kw_only=True)
class Awq(Algorithm):
    """Multiply the weights that meet large inputs, and divide the inputs, before weights are rounded.

    For layers that read floats, or a grid of 16 bits or more. alpha is the one, of some, with the least error
    of the outputs. A normalization before the layers takes the division where nothing else reads what it
    gives; elsewhere a product is inserted, if that is worth it. Ranges of weights are then those of their
    values: choose them anew after it.

    Attributes:
        steps: How many alphas from 0 to 1 are tried.
        gain: How much smaller the error has to be, as a share.
    """

    steps: int = 20
    gain: float = 0.1

    name = "awq"
    needs_batches: ClassVar[bool] = True
    needs_ranges: ClassVar[bool] = True

    def run(self, gm: fx.GraphModule, context: Context) -> None:
        searches = [
            _Search(group, [step / self.steps for step in range(self.steps + 1)])
            for group in input_groups(gm, context, _why_not)
        ]
        by_node = {layer.node: (search, layer) for search in searches for layer in search.group}
        with closing(in_turn(gm, context.batches, by_node, with_float=False)) as found:
            for stage, (search, layer) in found:
                search.try_layer(stage, layer)
        keep_structure(gm, context)
        for search in searches:
            self._apply(gm, search, context)
        restructured(gm)

    def _apply(self, gm: fx.GraphModule, search: "_Search", context: Context) -> None:
        names = ", ".join(layer.path for layer in search.group)
        noise = torch.tensor(search.noise) / max(search.power, torch.finfo(torch.float32).tiny)
        best = int(noise.argmin())
        before, after = float(noise[0]), float(noise[best])
        if not after < (1 - self.gain) * before:
            context.declined(names, "no factors lower its error enough", before, after)
            return
        factors = search.factors(search.alphas[best])
        ends = search.ranges.ends()
        assert ends is not None, "a layer reads as many channels in every batch"
        where = divide_input(gm, Division.of(search.group, factors, ends), context)
        context.applied(names, f"alpha {search.alphas[best]:.2f}, {where}", before, after)


@dataclass
class _Search:
    """What is known of the layers that read one tensor.

    Attributes:
        group: The layers.
        alphas: Those tried; the first is 0, which changes nothing.
        noise: Sum of the layers' errors for each.
        power: Sum of the powers of their outputs.
        magnitude: Mean magnitude of each channel, [channels].
        ranges: The ends of each channel.
    """

    group: Sequence[Layer]
    alphas: list[float]
    noise: list[float] = field(default_factory=list)
    power: float = 0.0
    magnitude: torch.Tensor = field(default_factory=lambda: torch.empty(0))
    ranges: ChannelRanges = field(default_factory=ChannelRanges)

    def factors(self, alpha: float) -> torch.Tensor:
        """Return the factors of an alpha; the geometric mean of the largest and the smallest is 1."""
        factors = self.magnitude.clamp_min(_SMALLEST) ** alpha
        return factors / (factors.amax() * factors.amin()).sqrt()

    def try_layer(self, stage: Stage, layer: Layer) -> None:
        """Add the error of a layer for each alpha."""
        rows = layer.rows(layer.weight.detach())
        if not self.noise:
            self.noise = [0.0] * len(self.alphas)
            self._look_at(stage, layer)
        moments = moments_of(stage, layer, rows, with_cross=False)
        self.power += float(moments.power.sum())
        for index, alpha in enumerate(self.alphas):
            self.noise[index] += _error(layer, rows, moments, self.factors(alpha))

    def _look_at(self, stage: Stage, layer: Layer) -> None:
        self.ranges = ChannelRanges(layer.input_axis)
        count, sums = 0, []
        for value in stage.values(layer.input, is_quantized=True):
            channels = value.detach().movedim(layer.input_axis, -1).flatten(0, -2).float()
            count += len(channels)
            sums.append(channels.abs().sum(dim=0))
            self.ranges.add(self.ranges.look(value.detach()))
        self.magnitude = torch.stack(sums).sum(dim=0) / max(count, 1)


def _why_not(layer: Layer) -> str | None:
    quantizer = layer.input_quantizer
    is_fine = isinstance(quantizer, QuantizeDequantize) and quantizer.bitwidth >= _FINE_BITS
    return None if quantizer is None or is_fine else "what it reads is on a coarse grid"


def _error(layer: Layer, rows: torch.Tensor, moments: Moments, factors: torch.Tensor) -> float:
    """Return the error of a layer's outputs when its weight is rounded with factors."""
    along = layer.along_input(factors)
    shaped = layer.weight.detach() * along
    snapped = grid_of(layer, covering(layer.quantizer, shaped)).snapped(layer.rows(shaped)) / layer.rows(
        along
    )
    return float(moments.error(snapped, rows).sum())
