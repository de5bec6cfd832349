"""bound_masks: finite ranges for tensors in which a mask puts -inf, or the lowest number of a type.

A softmax gives 0 for scores that lie far enough below the largest one. So the range of masked scores ends a
margin below the lowest score that is not masked, where what a mask hides saturates. With b bits behind the
softmax, the margin is the m with exp(-m) of half a step: m = ln(2 (2**b - 1)), 6.2 for 8 bits, 11.8 for 16.

A tensor that is added to others, or chosen instead of one, to make such scores ends so low that the result
saturates whatever the others hold. The file has the same ranges: what masks hide is code 0 there too.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import fx

from fxquant.graph.values import quantizer_of
from fxquant.quantization.affine import QuantizeDequantize

LOWEST = -1e30  # masks are filled with -inf or the lowest number of a type, bfloat16's is -3.4e38

_Site = tuple[fx.Node, QuantizeDequantize]
_Range = tuple[float, float]


def shown(value: torch.Tensor) -> torch.Tensor:
    """Return the values of a tensor that no mask hides; the tensor itself where it is not masked."""
    hidden = value <= LOWEST
    return value[~hidden] if bool(hidden.any()) else value


def bound_masks(gm: fx.GraphModule, masked: Iterable[_Site], observed: Mapping[Any, _Range]) -> list[fx.Node]:
    """Set the ranges of quantizers of masked tensors.

    Args:
        gm: The graph of the sites.
        masked: Calls of quantizers whose tensors are masked, in graph order.
        observed: The range of what no mask hides, with 0 in it, of every quantizer that saw anything.

    Returns:
        The sites that stay without a range: something that is not quantized reads them, and may look for
        the mask's own values.
    """
    sites = list(masked)
    tensors = {quantizer for _, quantizer in sites}
    lows: dict[QuantizeDequantize, float] = {}
    refused: set[QuantizeDequantize] = set()
    for node, quantizer in reversed(sites):
        if not all(_is_quantized(gm, reader) for reader in node.users):
            refused.add(quantizer)
            continue
        wanted = _range(quantizer, observed)[0] - _margin(quantizer)
        for reader in node.users:
            for result in _quantizers_behind(gm, reader):
                if result in tensors and result is not quantizer:
                    others = [
                        _highest(gm, other, observed) for other in reader.all_input_nodes if other is not node
                    ]
                    wanted = min(wanted, lows.get(result, 0.0) - sum(others))
                    refused |= {quantizer} if result in refused else set()
        lows[quantizer] = min(wanted, lows.get(quantizer, wanted))
    for quantizer, low in lows.items():
        if quantizer not in refused:
            quantizer.set_range(low, _range(quantizer, observed)[1])
    return [node for node, quantizer in sites if quantizer in refused]


def _margin(quantizer: QuantizeDequantize) -> float:
    return math.log(2 * (quantizer.qmax - quantizer.qmin))


def _quantizers_behind(gm: fx.GraphModule, node: fx.Node) -> list[QuantizeDequantize]:
    """Return the quantizers of what a node gives."""
    found = [quantizer_of(gm, user) for user in node.users]
    return [quantizer for quantizer in found if isinstance(quantizer, QuantizeDequantize)]


def _is_quantized(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether all that reads what a node gives reads it quantized."""
    return bool(node.users) and len(_quantizers_behind(gm, node)) == len(node.users)


def _highest(gm: fx.GraphModule, node: fx.Node, observed: Mapping[Any, _Range]) -> float:
    """Return the largest number that a quantized operand holds; 0 for one that is not quantized."""
    quantizer = quantizer_of(gm, node)
    return _range(quantizer, observed)[1] if isinstance(quantizer, QuantizeDequantize) else 0.0


def _range(quantizer: QuantizeDequantize, observed: Mapping[Any, _Range]) -> _Range:
    """Return the range that was seen of the tensors of a quantizer; of one that is fixed, its own."""
    if quantizer in observed:
        return observed[quantizer]
    minimum, maximum = quantizer.get_min(), quantizer.get_max()
    return (0.0, 0.0) if minimum is None or maximum is None else (float(minimum.min()), float(maximum.max()))
