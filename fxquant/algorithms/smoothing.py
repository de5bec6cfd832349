"""divide_input: divide what layers read by a factor per channel, and multiply their weights by it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx
from typing_extensions import Self

from fxquant.algorithms.context import Context
from fxquant.algorithms.layers import Layer
from fxquant.algorithms.scaling_layers import ScalingLayer, scaling_layer
from fxquant.calibration.methods import METHODS, set_range
from fxquant.calibration.sites import WeightSite
from fxquant.calibration.weights import set_weight_range
from fxquant.graph.annotations import LAYER, TENSOR, layer_of
from fxquant.graph.edit import add_buffer, add_module, bypass, callers, identifier, insert_call
from fxquant.graph.names import tensor_names
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.quantization.encoding_analyzer import MinMaxEncodingAnalyzer

_ROOM = "quantizers"


@dataclass(frozen=True, kw_only=True)
class Division:
    """A division of what some layers read.

    Attributes:
        layers: All read one node.
        factors: One for each input channel, above zero, [channels].
        ends: Lowest and highest value of the quotient; used only where the layers' input is quantized.
    """

    layers: Sequence[Layer]
    factors: torch.Tensor
    ends: tuple[float, float]

    @classmethod
    def of(cls, layers: Sequence[Layer], factors: torch.Tensor, ends: torch.Tensor) -> Self:
        """Return a division by factors of an input whose channels have some ends, [2, channels]."""
        low, high = ends / factors
        return cls(layers=layers, factors=factors, ends=(float(low.min()), float(high.max())))


def divide_input(gm: fx.GraphModule, division: Division, context: Context) -> str:
    """Divide the input of layers, and multiply their weights; return, in words, where the division went.

    A normalization that gives nothing but this input takes the division into its own parameters; elsewhere
    a product is inserted, with a quantizer of its own where the input has one. Weights get the ranges that
    they cover. The graph is to be kept before (``structure.keep_structure``), and written
    after the last division.
    """
    first = division.layers[0]
    producer = None if _is_shared(gm, first) else scaling_layer(gm, division.layers)
    if producer is not None:
        _fold(producer, first, division, context)
    else:
        _insert(gm, division)
    for layer in division.layers:
        context.write(layer.weight, layer.weight * layer.along_input(division.factors))
        context.remember(layer.quantizer)
        site = WeightSite(
            layer=layer.path, name=f"{layer.path}.weight", parameter=layer.weight, quantizer=layer.quantizer
        )
        set_weight_range(site, METHODS["minmax"])
    return "a product before it" if producer is None else f"in '{producer.path}'"


def covering(quantizer: QuantizeDequantize, values: torch.Tensor) -> QuantizeDequantize:
    """Return a copy of a quantizer whose range is that of some values."""
    copied = copy.deepcopy(quantizer)
    copied.allow_overwrite(True)
    analyzer = MinMaxEncodingAnalyzer(copied.shape, copied.block_size)
    analyzer.update_stats(values)
    set_range(copied, analyzer)
    return copied


def set_ends(quantizer: QuantizeDequantize, ends: tuple[float, float]) -> None:
    """Set the range of a quantizer of a whole tensor to what covers two values."""
    quantizer.allow_overwrite(True)
    analyzer = MinMaxEncodingAnalyzer(())
    analyzer.update_stats(torch.tensor(ends))
    set_range(quantizer, analyzer)


def _is_shared(gm: fx.GraphModule, layer: Layer) -> bool:
    """Whether the quantizer of a layer's input has other tensors on its grid, or a range that is given."""
    quantizer = layer.input_quantizer
    if not isinstance(quantizer, QuantizeDequantize):
        return quantizer is not None
    return (
        not quantizer.is_overwrite_allowed() or len(callers(gm, lambda m: m is quantizer)[id(quantizer)]) > 1
    )


def _fold(producer: ScalingLayer, first: Layer, division: Division, context: Context) -> None:
    for held in producer.parameters:
        context.write(held, held / division.factors.to(held.dtype))
    if isinstance(first.input_quantizer, QuantizeDequantize):
        context.remember(first.input_quantizer)
        set_ends(first.input_quantizer, division.ends)


def _insert(gm: fx.GraphModule, division: Division) -> None:
    first = division.layers[0]
    read = first.input
    source = read if first.input_quantizer is None else read.all_input_nodes[0]
    name = f"{tensor_names(gm)[source]}_smoothed"
    shape = [-1] + [1] * (-first.input_axis - 1)
    inverse = (1.0 / division.factors).to(first.weight.dtype).reshape(shape)
    buffer = add_buffer(gm, identifier(f"{name}_factor"), inverse)
    with gm.graph.inserting_after(read):
        held = gm.graph.get_attr(buffer)
    with gm.graph.inserting_after(held):
        quotient = gm.graph.call_function(torch.mul, (source, held))
    for node in (held, quotient):
        node.meta[LAYER] = layer_of(first.node)
    given = quotient
    if first.input_quantizer is not None:
        quantizer = covering(first.reads, torch.tensor(division.ends))
        given = insert_call(gm, add_module(gm, f"{_ROOM}.{identifier(name)}", quantizer), quotient, quotient)
        given.meta[TENSOR] = name
    for layer in division.layers:
        layer.node.replace_input_with(read, given)
    if first.input_quantizer is not None and not read.users:
        bypass(gm, read, source)
