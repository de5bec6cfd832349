"""A chain of convolutions with ReLU6, to see how differences in rounding grow."""

import torch

from fxquant.arithmetic.htp import Generation
from tests.peers.htp.layers import STEPS, Layer

_DRAWN = 127  # levels of a weight


def relu6_chain(
    generator: torch.Generator, depth: int, *, size: int = 64, channels: int = 32
) -> tuple[torch.Tensor, list[Layer]]:
    """Return codes of an image and a chain of 3 x 3 convolutions with ReLU6, per-channel weights and biases.

    Weights are drawn as He does, each output grid reaches from 0 to the largest value seen, 6 at most.
    """
    codes = torch.randint(0, STEPS + 1, (1, 3, size, size), generator=generator).double()
    first, layers = codes, list[Layer]()
    scale, zero = torch.tensor(0.02), 128
    for _ in range(depth):
        inputs = codes.shape[1]
        weight = torch.randn(channels, inputs, 3, 3, generator=generator) * (2 / (9 * inputs)) ** 0.5
        weight *= 0.5 + torch.rand(channels, 1, 1, 1, generator=generator)
        weight_scale = weight.flatten(1).abs().amax(1) / _DRAWN
        bias = 0.2 * torch.randn(channels, generator=generator) / (scale * weight_scale)
        parts = {
            "op": "Conv",
            "weight": (weight / weight_scale.reshape(-1, 1, 1, 1)).round().double(),
            "bias": bias.round().double(),
            "input_scale": scale,
            "weight_scale": weight_scale,
            "input_zero": zero,
            "output_zero": 0,
            "attributes": {"pads": [1, 1, 1, 1]},
            "highest": 6.0,
        }
        unscaled = Layer(**parts, output_scale=torch.tensor(1.0))
        sums = unscaled.sums(codes) + parts["bias"].reshape(-1, 1, 1)
        highest = (sums * scale * weight_scale.reshape(-1, 1, 1)).max().clamp_max(6.0)
        layer = Layer(**parts, output_scale=(highest / STEPS).float())
        layers.append(layer)
        codes = layer.codes_of(layer.sums(codes), None)
        scale, zero = layer.output_scale, 0
    return first, layers


def simulated(codes: torch.Tensor, layers: list[Layer], generation: Generation | None) -> torch.Tensor:
    """Return the codes that a chain gives: HTP's of a generation, or those of exact arithmetic."""
    for layer in layers:
        codes = layer.codes_of(layer.sums(codes), generation)
    return codes
