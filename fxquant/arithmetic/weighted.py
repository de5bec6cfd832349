"""Weighted: layers with a constant weight: an exact accumulator, then a requantization.

The layer's own forward runs on levels. It pads with zeros, which is what the padding of an integer kernel is.
Sums are exact in float32 while none can reach 2^24; past that, input channels are summed in parts that
cannot, and the parts in float64, which costs less than a product in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Any

import torch

from fxquant.arithmetic.call import Call
from fxquant.arithmetic.levels import Leveled, saturated
from fxquant.arithmetic.requantize import Requantize
from fxquant.quantization import AffineEncoding

KeepBias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
EXACT = 2**24  # float32 holds every whole number up to here


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """A convolution or linear layer whose weight is stored as integers.

    Attributes:
        requantize: Maps the accumulator to the levels of the output.
        keep_bias: Maps the bias's levels, with the scales of input and weight, to those that the kernel adds;
            None where it adds the bias as it is stored.
    """

    requantize: Requantize
    keep_bias: KeepBias | None = None

    def __call__(
        self, call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None
    ) -> torch.Tensor:
        """Return levels of the output; without a grid ``float32(a) * (s_x * s_w)``, as MLAS hands it out."""
        (x,) = inputs
        module, steps = call.called, x.encoding.num_steps
        weight, scale = weight_levels(module), module.param_quantizers["weight"].scale.reshape(-1)
        bias = bias_levels(module, x.scale * scale)
        if bias is not None and self.keep_bias is not None:
            bias = self.keep_bias(bias, x.scale, scale)
        parts = call.kept.of(module.weight, lambda: parts_of(module, weight, bias, steps))
        accumulator = _accumulator(module, x.levels, weight, bias, parts)
        scale = _in_front_of_space(scale, weight)
        if output is None:
            return accumulator.float().mul_(x.scale * scale)
        return self.requantize(accumulator, x.scale, scale, output)


@dataclass(frozen=True, kw_only=True)
class Linear(Weighted):
    """A linear layer; one with a float bias on anything but rows adds it in float behind the product.

    ONNX Runtime turns the product and sum of a stack of matrices into one Gemm only if it can fuse the bias.
    """

    def __call__(
        self, call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None
    ) -> torch.Tensor:
        """Return levels of the output, or its real values, as ``Weighted`` or ``float32(a) * s + bias``."""
        (x,) = inputs
        module = call.called
        if module.bias is None or module.param_quantizers["bias"] is not None or x.real.dim() == 2:
            return super().__call__(call, inputs, output)
        weight, steps = weight_levels(module), x.encoding.num_steps
        scale = module.param_quantizers["weight"].scale.reshape(-1)
        parts = call.kept.of(module.weight, lambda: parts_of(module, weight, None, steps))
        accumulator = _accumulator(module, x.levels, weight, None, parts)
        real = accumulator.float().mul_(x.scale * scale).add_(module.bias)
        return real if output is None else saturated(real.div_(output.scale), output)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """How to sum the products of a layer exactly.

    Attributes:
        cuts: Where to cut the input channels; only the two ends for one sum.
        is_double: Whether the one sum needs float64: grouped channels cannot be cut.
        has_small_bias: Whether the bias can be added in float32 with them.
    """

    cuts: tuple[int, ...]
    is_double: bool = False
    has_small_bias: bool = False


def weight_levels(module: Any) -> torch.Tensor:
    """Return the levels of a layer's weight, in float32."""
    levels: torch.Tensor = module.weight.float().add_(module.param_quantizers["weight"].offset)
    return levels


def bias_levels(module: Any, scale: torch.Tensor) -> torch.Tensor | None:
    """Return a layer's bias at a scale, in float64; a float one is rounded as ONNX Runtime does on loading.

    Args:
        module: The layer.
        scale: Scale of the accumulator, per output channel or one, float32.
    """
    if module.bias is None:
        return None
    is_stored = module.param_quantizers["bias"] is not None
    levels: torch.Tensor = (module.bias if is_stored else (module.bias.float() / scale).round()).double()
    return levels


def parts_of(module: Any, weight: torch.Tensor, bias: torch.Tensor | None, steps: int) -> Parts:
    """Return how to sum the products of a layer whose input has levels of up to ``steps``, of any sign."""
    products = weight.abs().double().mul_(steps)
    products = products.flatten(2).sum(2) if products.dim() > 2 else products  # [out, in / groups]
    sums, channels = products.sum(1), products.shape[1]
    if bool((sums + (0.0 if bias is None else bias.abs()) < EXACT).all()):
        return Parts(cuts=(0, channels), has_small_bias=True)
    if bool((sums < EXACT).all()):
        return Parts(cuts=(0, channels))
    if getattr(module, "groups", 1) > 1 or bool((products >= EXACT).any()):
        return Parts(cuts=(0, channels), is_double=True)
    for number in count(2):
        cuts = tuple(index * channels // number for index in range(number + 1))
        if all(bool((products[:, start:end].sum(1) < EXACT).all()) for start, end in pairwise(cuts)):
            return Parts(cuts=cuts)
    raise AssertionError("parts of one channel each are small enough")


def _accumulator(
    module: Any, levels: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, parts: Parts
) -> torch.Tensor:
    """Return the exact sum of products and bias: float32 while it stays below 2^24, else float64."""
    if parts.has_small_bias:
        return _sum(module, levels, weight, None if bias is None else bias.float())
    if len(parts.cuts) == 2:
        dtype = torch.float64 if parts.is_double else torch.float32
        total = _sum(module, levels.to(dtype), weight.to(dtype), None).double()
    else:
        axis = levels.dim() - weight.dim() + 1  # of the input channels; an input may have no batch
        spans = [(start, end - start) for start, end in pairwise(parts.cuts)]
        first, *others = (
            _sum(module, levels.narrow(axis, *span), weight.narrow(1, *span), None) for span in spans
        )
        total = first.double()
        for other in others:
            total.add_(other)
    return total if bias is None else total.add_(_in_front_of_space(bias, weight))


def _sum(module: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    total: torch.Tensor = module.compute({"weight": weight, "bias": bias}, x)
    return total


def _in_front_of_space(values: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return one number per output channel, or one for all, so that it broadcasts against the output."""
    return values.reshape(-1, *[1] * (weight.dim() - 2))
