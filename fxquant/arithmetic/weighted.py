"""Weighted: layers with a constant weight: an exact accumulator, then a requantization.

The layer's own forward runs on levels. It pads with zeros, which is what the padding of an integer kernel is.
Sums are exact in float32 while none can reach 2^24; past that, input channels are summed in parts that
cannot, and the parts in float64, which costs less than a product in float64.
"""

from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import torch

from fxquant.arithmetic.call import Call
from fxquant.arithmetic.levels import Leveled
from fxquant.arithmetic.requantize import Requantize
from fxquant.quantization import AffineEncoding

EXACT = 2**24  # float32 holds every whole number up to here


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """A convolution or linear layer whose weight, and bias if it has one, are stored as integers.

    Attributes:
        requantize: Maps the accumulator to the levels of the output.
    """

    requantize: Requantize

    def __call__(
        self, call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None
    ) -> torch.Tensor:
        """Return levels of the output; without a grid ``float32(a) * (s_x * s_w)``, as MLAS hands it out."""
        (x,) = inputs
        module, steps = call.called, x.encoding.num_steps
        parts = call.kept.of(module.weight, lambda: parts_of(module, steps))
        accumulator = _accumulator(module, x.levels, parts)
        channels = (-1, *[1] * (module.weight.dim() - 2))  # in front of the spatial axes of the output
        weight_scale = module.param_quantizers["weight"].scale
        weight_scale = weight_scale.reshape(channels if weight_scale.numel() > 1 else ())
        if output is None:
            return accumulator.float().mul_(x.scale * weight_scale)
        return self.requantize(accumulator, x.scale, weight_scale, output)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """How to sum the products of a layer exactly.

    Attributes:
        cuts: Where to cut the input channels; only the two ends for one sum in float32.
        is_double: Whether one sum needs float64: grouped channels cannot be cut.
        has_small_bias: Whether the bias can be added in float32 with them.
    """

    cuts: tuple[int, ...]
    is_double: bool = False
    has_small_bias: bool = False


def parts_of(module: Any, steps: int) -> Parts:
    """Return how to sum the products of a layer whose input has levels of up to ``steps``, of any sign."""
    weight, bias = _levels(module, "weight"), _levels(module, "bias")
    products = weight.abs().double().flatten(2).sum(2) if weight.dim() > 2 else weight.abs().double()
    products *= steps  # [out, in / groups]: what an input channel can contribute to an output
    channels, is_grouped = products.shape[1], getattr(module, "groups", 1) > 1
    sums = products.sum(1)
    if bool((sums + (0.0 if bias is None else bias.abs()) < EXACT).all()):
        return Parts(cuts=(0, channels), has_small_bias=True)
    if bool((sums < EXACT).all()):
        return Parts(cuts=(0, channels))
    if is_grouped or bool((products >= EXACT).any()):
        return Parts(cuts=(0, channels), is_double=True)
    for number in count(2):
        cuts = tuple(index * channels // number for index in range(number + 1))
        if all(bool((products[:, start:end].sum(1) < EXACT).all()) for start, end in pairwise(cuts)):
            return Parts(cuts=cuts)
    raise AssertionError("parts of one channel each are small enough")


def _accumulator(module: Any, levels: torch.Tensor, parts: Parts) -> torch.Tensor:
    """Return the exact sum of products and bias: float32 while it stays below 2^24, else float64."""
    weight, bias = _levels(module, "weight"), _levels(module, "bias")
    assert weight is not None
    if parts.has_small_bias:
        return _sum(module, levels, weight, None if bias is None else bias.float())
    if parts.is_double:
        levels, weight = levels.double(), weight.double()
    axis = levels.dim() - weight.dim() + 1  # of the input channels: layers take inputs without a batch, too
    total: torch.Tensor | None = None
    for start, end in pairwise(parts.cuts):
        size = end - start
        is_whole = len(parts.cuts) == 2  # a narrowed weight would not fit grouped inputs
        x = levels if is_whole else levels.narrow(axis, start, size)
        part = _sum(module, x, weight if is_whole else weight.narrow(1, start, size), None)
        total = part.double() if total is None else total.add_(part)
    assert total is not None
    return total if bias is None else total.add_(bias.reshape(-1, *[1] * (weight.dim() - 2)))


def _sum(module: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    total: torch.Tensor = module.compute({"weight": weight, "bias": bias}, x)
    return total


def _levels(module: Any, name: str) -> torch.Tensor | None:
    """Return the levels of a parameter stored as integers: a weight in float32, a bias in float64."""
    codes, quantizer = getattr(module, name), module.param_quantizers[name]
    if codes is None:
        return None
    dtype = torch.float32 if codes.dtype in (torch.int8, torch.uint8) else torch.float64
    levels: torch.Tensor = codes.to(dtype).add_(quantizer.offset)
    return levels
