"""Functions that set up groups of layers of a QuantizationSimModel: float activations, blockwise weights.

Qualcomm's runtimes take blocks of weights only, along the input channels only: block size 1 on the output
channels and the whole axis everywhere else; an integer block size means exactly that.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fxquant.errors import OptionError, QuantizerError
from fxquant.nn import QuantizationMixin
from fxquant.ops import op_of_module
from fxquant.quantization.affine import GroupedBlockQuantizeDequantize, QuantizeDequantize
from fxquant.quantization.float import FloatQuantizeDequantize

if TYPE_CHECKING:
    from fxquant.quantsim.sim_model import QuantizationSimModel

Selection = Sequence[type[nn.Module]] | Sequence[nn.Module] | Callable[[nn.Module], bool]
"""Layers: a list of classes, a list of the sim's own modules, or a predicate."""


class BlockSizeError(OptionError, QuantizerError):
    """A block size or grouping that does not fit a layer's weight."""


def set_activation_quantizers_to_float(
    sim: "QuantizationSimModel",
    arg: Selection,
    exponent_bits: int | None = None,
    mantissa_bits: int | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Quantize the inputs and outputs of some layers to a float type instead of integers.

    Only quantizers that are there are replaced.

    Args:
        sim: The simulation.
        arg: Which layers.
        exponent_bits: Bits of the exponent, with mantissa_bits in place of dtype.
        mantissa_bits: Bits of the mantissa.
        dtype: The float type, such as torch.float16.

    Raises:
        OptionError: If arg selects in none of the three ways.
        ValueError: If the float type is given twice or not at all.
    """
    for _, layer in _selected(sim, arg):
        for quantizers in (layer.input_quantizers, layer.output_quantizers):
            for index, quantizer in enumerate(quantizers):
                if quantizer is not None:
                    made = FloatQuantizeDequantize(exponent_bits, mantissa_bits, dtype=dtype)
                    quantizers[index] = made.to(_device(quantizer))


def set_blockwise_quantization_for_weights(
    sim: "QuantizationSimModel",
    arg: Selection,
    bitwidth: int,
    symmetric: bool,
    block_size: int | Sequence[int],
) -> None:
    """Give the weights of some layers one range per block.

    Args:
        sim: The simulation.
        arg: Which layers; those without a weight quantizer are left alone.
        bitwidth: Bits of a code.
        symmetric: Whether zero lies in the middle of the grid.
        block_size: Block size along the input channels, with one range per output channel; or block sizes by
            axis, -1 for the whole axis.

    Raises:
        BlockSizeError: If blocks do not divide a weight, or a layer has no input channels; before any
            layer is changed.
    """
    for layer, shape, sizes in _blocks(sim, arg, block_size):
        quantizer = QuantizeDequantize(shape, bitwidth, symmetric, block_size=sizes)
        _set_weight_quantizer(layer, quantizer)


def set_grouped_blockwise_quantization_for_weights(
    sim: "QuantizationSimModel",
    arg: Selection,
    bitwidth: int,
    symmetric: bool,
    decompressed_bw: int,
    block_size: int | Sequence[int],
    block_grouping: int | Sequence[int] = -1,
) -> None:
    """Give the weights of some layers ranges per block that are whole multiples of one per group (LPBQ).

    Args:
        sim: The simulation.
        arg: Which layers; those without a weight quantizer are left alone.
        bitwidth: Bits of a code.
        symmetric: True: nothing else is possible.
        decompressed_bw: Bits of a decompressed weight, at least bitwidth.
        block_size: As in ``set_blockwise_quantization_for_weights``.
        block_grouping: Number of blocks in a group along the input channels, -1 for all; or by axis.

    Raises:
        BlockSizeError: If blocks do not divide a weight, or a layer has no input channels; before any
            layer is changed.
        QuantizerError: If the bitwidths or the grouping contradict each other.
    """
    made = [
        (
            layer,
            GroupedBlockQuantizeDequantize(
                shape,
                bitwidth,
                symmetric,
                decompressed_bw,
                block_size=sizes,
                block_grouping=_by_axis(layer, block_grouping, out_channels=1, other=1),
            ),
        )
        for layer, shape, sizes in _blocks(sim, arg, block_size)
    ]
    for layer, quantizer in made:
        _set_weight_quantizer(layer, quantizer)


def _selected(sim: "QuantizationSimModel", arg: Selection) -> list[tuple[str, QuantizationMixin]]:
    """Return the names and layers that are meant, in the model's order."""
    if callable(arg) and not isinstance(arg, type):
        chosen: Callable[[nn.Module], bool] = arg
    elif isinstance(arg, Sequence) and arg and all(isinstance(item, type) for item in arg):
        classes: Any = tuple(arg)
        chosen = lambda module: isinstance(module, classes)  # noqa: E731  # one of three predicates
    elif isinstance(arg, Sequence) and arg and all(isinstance(item, nn.Module) for item in arg):
        layers = {id(item) for item in arg}
        chosen = lambda module: id(module) in layers  # noqa: E731  # one of three predicates
    else:
        raise BlockSizeError(
            f"Cannot select layers by {arg!r}.",
            remedy="Pass a list of module classes, a list of modules of the sim, or a function of a module.",
        )
    return [(name, layer) for name, layer in sim.named_qmodules() if chosen(layer)]


def _blocks(
    sim: "QuantizationSimModel", arg: Selection, block_size: int | Sequence[int]
) -> list[tuple[QuantizationMixin, tuple[int, ...], list[int]]]:
    """Return each layer meant, the number of its blocks by axis, and their sizes."""
    found = []
    for name, layer in _selected(sim, arg):
        if layer.param_quantizers._modules.get("weight") is None:
            continue
        shape = tuple(layer.get_parameter("weight").shape)
        sizes = _by_axis(layer, block_size, out_channels=1, other=-1, name=name)
        fits = len(sizes) == len(shape) and all(
            size == -1 or (size > 0 and length % size == 0) for length, size in zip(shape, sizes, strict=True)
        )
        if not fits:
            raise BlockSizeError(
                f"A weight of shape {shape} does not divide into blocks of {sizes}.",
                layer=name,
                remedy="Choose a block size that divides the input channels, or leave the layer out.",
            )
        counts = (1 if size == -1 else length // size for length, size in zip(shape, sizes, strict=True))
        found.append((layer, tuple(counts), sizes))
    return found


def _by_axis(
    layer: nn.Module, value: int | Sequence[int], out_channels: int, other: int, name: str = ""
) -> list[int]:
    """Return a value for each axis of a layer's weight from one for its input channels."""
    if not isinstance(value, int):
        return list(value)
    op = op_of_module(layer)
    axis = None if op is None or op.weight is None else op.weight.channel_axis
    rank = layer.get_parameter("weight").dim()
    if axis not in (0, 1) or rank < 2:
        raise BlockSizeError(
            f"A {type(layer).__name__} has no input channels that one number could be for.",
            layer=name or None,
            remedy="Give one value per axis of its weight, or leave the layer out.",
        )
    values = [other] * rank
    values[axis], values[1 - axis] = out_channels, value
    return values


def _set_weight_quantizer(layer: QuantizationMixin, quantizer: nn.Module) -> None:
    old: Any = layer.param_quantizers["weight"]
    layer.param_quantizers["weight"] = quantizer.to(_device(old))


def _device(quantizer: nn.Module) -> torch.device:
    tensors = [*quantizer.parameters(), *quantizer.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")
