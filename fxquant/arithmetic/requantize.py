"""requantize: from the accumulator of a product to the levels of the grid behind it, as MLAS does it."""

from collections.abc import Callable

import torch

from fxquant.arithmetic.levels import saturated
from fxquant.quantization import AffineEncoding

Requantize = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, AffineEncoding], torch.Tensor]
"""(accumulator, scale of one operand, scale of the other, grid of the output) -> levels of the output."""


def requantize(
    accumulator: torch.Tensor, scale: torch.Tensor, other: torch.Tensor, output: AffineEncoding
) -> torch.Tensor:
    """Return the levels that ONNX Runtime's kernels of Conv, Gemm and MatMul give.

    ``level = clamp(rint(float32(a) * m), qmin - z, qmax - z)`` with ``m = s_1 * s_2 / s_out``, each product
    and quotient rounded to float32, as MLAS does in MlasRequantizeOutput.

    Args:
        accumulator: Whole numbers in int32's range, float32 or float64; it may be overwritten.
        scale: Scale of the first operand, float32; broadcasts against the accumulator.
        other: Scale of the second operand, such as the weight's per output channel.
        output: Grid of the output.
    """
    multiplier = scale * other / output.scale
    return saturated(accumulator.float().mul_(multiplier), output)
