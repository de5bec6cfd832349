"""Product: the matrix product of two quantized tensors."""

from dataclasses import dataclass

import torch

from fxquant.arithmetic.call import Call
from fxquant.arithmetic.levels import Leveled
from fxquant.arithmetic.requantize import Requantize
from fxquant.arithmetic.weighted import EXACT
from fxquant.quantization import AffineEncoding


@dataclass(frozen=True, kw_only=True)
class Product:
    """A matrix product of activations, or of an activation and a constant with a scale per column.

    Attributes:
        requantize: Maps the accumulator to the levels of the output.
    """

    requantize: Requantize

    def __call__(
        self, call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None
    ) -> torch.Tensor:
        """Return levels of the output; without a grid ``float32(a) * (s_1 * s_2)``."""
        first, second = inputs
        terms = first.real.shape[-1]
        is_exact = terms * first.encoding.num_steps * second.encoding.num_steps < EXACT
        dtype = torch.float32 if is_exact else torch.float64
        accumulator = call.on(first.levels.to(dtype), second.levels.to(dtype))
        if output is None:
            return accumulator.float().mul_(first.scale * second.scale)
        return self.requantize(accumulator, first.scale, second.scale, output)
