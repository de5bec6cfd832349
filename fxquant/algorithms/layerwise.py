"""Layerwise: algorithms that change the weight of one layer after the other, given what the layer reads."""

import math
from abc import abstractmethod
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import fx

from fxquant.algorithms.base import Algorithm
from fxquant.algorithms.context import Context
from fxquant.algorithms.gptq_rows import Grid
from fxquant.algorithms.layers import Layer, layers_of
from fxquant.algorithms.moments import Moments, moments_of
from fxquant.algorithms.reference import original_of
from fxquant.algorithms.streams import in_turn
from fxquant.graph.annotations import layer_of
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.quantization.blocks import BlockSize, blockwise


@dataclass(frozen=True, kw_only=True)
class Layerwise(Algorithm):
    """Changes weights, layer after layer in the order they run, each given what the mended ones hand it.

    Attributes:
        corrects_input: Whether a weight also makes up for what quantization did to the layer's input: it then
            fits the output that the float model has there.
        damping: How much a weight holds on to its values where the data says little: what is added to the
            diagonal of its Hessian, as a share of the diagonal's mean.
        shrinkage: How much less alike inputs are taken to be than in the data, from 0 to 1: the more, the
            less data there is.
    """

    corrects_input: bool = False
    damping: float = 0.01
    shrinkage: float = 0.1

    needs_batches: ClassVar[bool] = True
    needs_ranges: ClassVar[bool] = True

    def run(self, gm: fx.GraphModule, context: Context) -> None:
        layers, declined = layers_of(gm, gm.graph.nodes)
        for node, reason in declined.items():
            context.declined(layer_of(node), reason)
        wanted = {layer.node: layer for layer in layers}
        with closing(in_turn(gm, context.batches, wanted, with_float=self.corrects_input)) as found:
            for stage, layer in found:
                rows = layer.rows(original_of(layer.weight))
                moments = moments_of(stage, layer, rows, with_cross=self.corrects_input)
                self.mend(layer, rows, moments.shrunk(self.shrinkage), context)

    @abstractmethod
    def mend(self, layer: Layer, rows: torch.Tensor, moments: Moments, context: Context) -> None:
        """Change what a layer's weight becomes, and report it.

        Args:
            layer: The layer.
            rows: Its weight as rows, [groups, outputs, length].
            moments: Of the layer's patches.
            context: Where to change and report.
        """


def grid_of(layer: Layer, quantizer: QuantizeDequantize | None = None) -> Grid:
    """Return the grid of each element of a layer's rows; of another quantizer's range where one is given."""
    encoding = (quantizer or layer.quantizer).get_encodings()
    assert encoding is not None
    return Grid(
        scale=of_each(layer, encoding.scale, encoding.block_size),
        offset=of_each(layer, encoding.offset, encoding.block_size),
        qmin=encoding.qmin,
        qmax=encoding.qmax,
    )


def of_each(layer: Layer, numbers: torch.Tensor, block_size: BlockSize) -> torch.Tensor:
    """Return numbers of a range's shape for each element of a layer's rows."""
    weight = layer.weight.detach()
    spread = blockwise(lambda w, n: n.expand(w.shape), weight, numbers.detach(), block_size)
    return layer.rows(spread.expand(weight.shape))


def share_of(error: torch.Tensor, power: float) -> float:
    """Return the power of an error as a share of that of the output."""
    return float(error.sum()) / power if power else math.nan
