"""SmoothQuant: move large channels of what a layer reads into its weight, where they cost less.

Xiao et al. 2023, "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models",
section 4. With a_c the largest magnitude of input channel c and w_c that of the weights it meets::

    s_c = a_c ** alpha / w_c ** (1 - alpha)        x W^T = (x / s) (W s)^T

Layers that read one tensor share s. alpha is the one, of some, that leaves their outputs the least error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx

from fxquant.algorithms.base import Algorithm
from fxquant.algorithms.context import Context
from fxquant.algorithms.input_groups import input_groups
from fxquant.algorithms.input_samples import Channels, channels_of
from fxquant.algorithms.layers import Layer
from fxquant.algorithms.moments import importance
from fxquant.algorithms.smoothing import Division, covering, divide_input
from fxquant.algorithms.structure import keep_structure, restructured
from fxquant.calibration import Signature, calls_of
from fxquant.quantization.affine import QuantizeDequantize

_SMALLEST = 1e-5  # a factor below would make a channel's weights vanish


@dataclass(frozen=True, kw_only=True)
class SmoothQuant(Algorithm):
    """Divide channels of what layers read, and multiply the weights that they meet.

    A normalization before the layers takes the division into its own parameters where nothing else reads it;
    elsewhere a product is inserted. Layers whose error it does not lower stay.

    Attributes:
        fewest: Lowest alpha tried.
        most: Highest alpha tried.
        steps: How many are tried, evenly spaced.
        gain: How much smaller the error has to be, as a share, for a product to be inserted.
    """

    fewest: float = 0.2
    most: float = 0.7
    steps: int = 8
    gain: float = 0.1

    name = "smooth-quant"
    needs_batches: ClassVar[bool] = True
    needs_ranges: ClassVar[bool] = True

    def run(self, gm: fx.GraphModule, context: Context) -> None:
        calls = list(calls_of(context.batches, Signature(gm)))
        groups = input_groups(gm, context, _why_not)
        channels = channels_of(gm, [layer for group in groups for layer in group], calls)
        keep_structure(gm, context)
        for group in groups:
            self._smooth(gm, group, channels[group[0].input], context)
        restructured(gm)

    def _smooth(self, gm: fx.GraphModule, group: Sequence[Layer], seen: Channels, context: Context) -> None:
        """Divide what a group reads by the best factors, if any help."""
        names = ", ".join(layer.path for layer in group)
        weights = [_by_input(layer, layer.weight.detach()) for layer in group]
        largest = torch.stack([weight.abs().amax(dim=(0, 2)) for weight in weights]).amax(dim=0)
        wanted = [_Wanted.of(layer, seen.rows) for layer in group]
        before = _error(wanted, seen, torch.ones_like(largest))
        best, error, alpha = None, before, 0.0
        for step in range(self.steps):
            power = self.fewest + (self.most - self.fewest) * step / max(self.steps - 1, 1)
            factors = seen.ends.abs().amax(dim=0).clamp_min(_SMALLEST) ** power / largest.clamp_min(
                _SMALLEST
            ) ** (1 - power)
            factors = (factors / factors.log().mean().exp()).clamp_min(_SMALLEST)
            found = _error(wanted, seen, factors)
            if found < error:
                best, error, alpha = factors, found, power
        if best is None or error > (1 - self.gain) * before:
            context.declined(names, "no factors lower its error enough", before, error)
            return
        where = divide_input(gm, Division.of(group, best, seen.ends), context)
        context.applied(names, f"alpha {alpha:.2f}, {where}", before, error)


def _why_not(layer: Layer) -> str | None:
    is_quantized = isinstance(layer.input_quantizer, QuantizeDequantize)
    return None if is_quantized else "what it reads is not quantized"


def _by_input(layer: Layer, weight: torch.Tensor) -> torch.Tensor:
    """Return a tensor of a layer's weight as [outputs, input channels, rest]."""
    weight = weight.float()
    return weight.movedim(layer.channel_axis, 0).flatten(2) if weight.dim() > 2 else weight[..., None]


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What a layer gives in float for the rows that were kept, each tap of a kernel as a matrix of its own.

    Attributes:
        layer: The layer.
        outputs: For each tap, [rows, outputs].
        shares: How much each row counts for each tap, [rows, 1].
        power: The power of the outputs.
    """

    layer: Layer
    outputs: list[torch.Tensor]
    shares: list[torch.Tensor]
    power: float

    @classmethod
    def of(cls, layer: Layer, rows: torch.Tensor) -> "_Wanted":
        weight = _by_input(layer, layer.weight.detach())
        outputs = [rows @ tap.T for tap in weight.unbind(dim=2)]
        squares = [output.square() for output in outputs]
        shares = [importance(square.mean(dim=1, keepdim=True)[None])[0] for square in squares]
        power = sum(float((a * b).mean()) for a, b in zip(squares, shares, strict=True))
        return cls(layer=layer, outputs=outputs, shares=shares, power=power)


def _error(group: Sequence[_Wanted], seen: Channels, factors: torch.Tensor) -> float:
    """Return the share of the outputs' power that quantizing input and weights with factors costs."""
    inputs = covering(group[0].layer.reads, seen.ends / factors)(seen.rows / factors).detach()
    noise = 0.0
    for wanted in group:
        layer = wanted.layer
        shaped = layer.weight.detach() * layer.along_input(factors)
        snapped = _by_input(layer, covering(layer.quantizer, shaped)(shaped).detach()).unbind(dim=2)
        for tap, output, share in zip(snapped, wanted.outputs, wanted.shares, strict=True):
            noise += float(((inputs @ tap.T - output).square_() * share).mean())
    power = sum(wanted.power for wanted in group)
    return noise / power if power else 0.0
