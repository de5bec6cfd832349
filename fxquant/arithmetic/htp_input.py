"""How Qualcomm's HTP quantizes a float input, found by experiment (see ``htp``)."""

import torch

from fxquant.arithmetic.levels import saturated
from fxquant.quantization import AffineEncoding


def input_levels(x: torch.Tensor, encoding: AffineEncoding) -> torch.Tensor:
    """Return the levels that the HTP gives to a float input of a model, all generations alike.

    With ``H(x)`` x rounded to float16, which leaves large levels few fraction bits::

        v = H(F(x / s))        level = clamp(sign(v) * floor(|v| + 1/2))

    By default ONNX Runtime quantizes inputs on the CPU instead, ``clamp(rint(F(x / s)))``.

    Args:
        x: Real values, float32.
        encoding: Grid of uint8.
    """
    halves = torch.div(x, encoding.scale).half().float()
    return saturated(halves.sign() * (halves.abs() + 0.5).floor(), encoding)
