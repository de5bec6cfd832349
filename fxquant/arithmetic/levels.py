"""Levels: a tensor on an integer grid as whole numbers of steps from real zero, in a float tensor.

With s the scale, o the offset and q the codes of a grid (``quantization.functional``)::

    level = q + o        real value = level * s        zero point z = -o

Whole numbers below 2^24 are exact in float32, and so are their sums and products while they stay below it:
float kernels then compute what integer kernels compute.
"""

from dataclasses import dataclass

import torch

from fxquant.quantization import AffineEncoding


@dataclass(frozen=True, kw_only=True, eq=False)
class Leveled:
    """A tensor on a grid.

    Attributes:
        real: Its real values, any shape.
        encoding: The grid they lie on; its scale is one number, or broadcasts against the tensor.
    """

    real: torch.Tensor
    encoding: AffineEncoding

    @property
    def levels(self) -> torch.Tensor:
        """Whole numbers of steps from real zero, a new float32 tensor.

        The quotient lies within 2^-22 of the level, relatively, so that rounding finds it for up to 16 bits.
        """
        return torch.div(self.real.float(), self.encoding.scale).round_()

    @property
    def codes(self) -> torch.Tensor:
        """The codes, a new float32 tensor."""
        return self.levels.sub_(self.encoding.offset)

    @property
    def scale(self) -> torch.Tensor:
        """Real size of one step."""
        return self.encoding.scale

    @property
    def zero_point(self) -> torch.Tensor:
        """Code of real zero, in float32."""
        return -self.encoding.offset


def saturated(levels: torch.Tensor, encoding: AffineEncoding) -> torch.Tensor:
    """Round levels half to even and clamp them to a grid, in place; return them."""
    low, high = encoding.offset + encoding.qmin, encoding.offset + encoding.qmax
    return levels.round_().clamp_min_(low).clamp_max_(high)


def levels_of_codes(codes: torch.Tensor, encoding: AffineEncoding) -> torch.Tensor:
    """Round codes half to even and clamp them to a grid, in place; return them as levels.

    A kernel that rounds with the zero point added rounds other ties to even than one that adds it later.
    """
    return codes.round_().clamp_min_(encoding.qmin).clamp_max_(encoding.qmax).add_(encoding.offset)
