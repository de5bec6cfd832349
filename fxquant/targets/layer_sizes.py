"""LayerSizes: the sizes of one layer that multiplies and accumulates, as far as they are known."""

from collections.abc import Callable
from dataclasses import dataclass

from fxquant.quantization import QuantizationSpec


@dataclass(frozen=True, kw_only=True)
class LayerSizes:
    """The sizes of a matrix product, or of a convolution, one of whose groups is such a product.

    Attributes:
        rows: Rows of the left matrix; None where they vary or are not known, and for a convolution.
        depth: Numbers that each result sums over; of a convolution, input channels of one group.
        columns: Columns of the right matrix; of a convolution, output channels of all groups.
        kernel: Sizes of a convolution's kernel; empty for a product.
        groups: Groups of a convolution.
        is_first: Whether it reads an input of the model.
    """

    rows: int | None = None
    depth: int | None = None
    columns: int | None = None
    kernel: tuple[int, ...] = ()
    groups: int = 1
    is_first: bool = False


SizeLimit = Callable[[LayerSizes, QuantizationSpec], str]
"""Returns why a target does better with a layer in float, given the spec of its weight; empty if not."""
