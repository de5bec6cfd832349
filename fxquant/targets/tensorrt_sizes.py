"""Layers that TensorRT runs better in float, by their sizes (P12, P13, P14, P20, A12).

Read from NVIDIA ModelOpt, onnx/quantization/graph_utils.py; the linter asks here too.
"""

import math

from fxquant.quantization import QuantizationSpec
from fxquant.targets.layer_sizes import LayerSizes

_SMALL = 16  # channels, or rows and columns of a Tensor Core's tile
_LINED_UP = 8
_TAPS = 32  # of an FP8 convolution
_INT4 = 4


def small_product(sizes: LayerSizes, weight: QuantizationSpec) -> str:
    """Return why a matrix product stays float; empty if it does not."""
    if weight.bitwidth <= _INT4:  # the weight is stored in few bits, the product is computed in float
        count = math.prod((sizes.depth or 0, sizes.columns or 0))
        return f"A12: {count} elements of 4 bits do not fill bytes" if count % 2 else ""
    if sizes.rows == 1 or sizes.columns == 1:
        return "P12: it multiplies by a vector"
    if sizes.depth is not None and sizes.depth < _SMALL:
        return f"P12: it sums over {sizes.depth} numbers only"
    if sizes.columns is not None and sizes.columns < _SMALL:
        return f"P12: it has {sizes.columns} columns only"
    return ""


def small_convolution(sizes: LayerSizes, weight: QuantizationSpec) -> str:
    """Return why a convolution stays float; empty if it does not, or its sizes are not known."""
    if sizes.depth is None or sizes.columns is None or not sizes.kernel:
        return ""
    if weight.float_type is not None:
        return _small_in_float8(sizes.depth, sizes.columns, sizes.kernel)
    if sizes.depth >= _SMALL and sizes.columns >= _SMALL:
        return ""
    if sizes.groups > 1:
        is_fast = sizes.columns % _LINED_UP == 0 and min(sizes.kernel) >= 3
        return "" if is_fast else f"P13: {sizes.columns} channels in {sizes.groups} groups"
    is_lined_up = sizes.depth % _LINED_UP == 0 or sizes.columns % _LINED_UP == 0
    has_width = sizes.is_first or max(sizes.depth, sizes.columns) >= _SMALL
    if is_lined_up and has_width and len(set(sizes.kernel)) == 1:
        return ""
    return f"P13: {sizes.depth} channels in, {sizes.columns} out"


def grouped_convolution(sizes: LayerSizes, weight: QuantizationSpec) -> str:
    """Return why a transposed convolution stays float; empty if it does not."""
    return f"P20: it has {sizes.groups} groups, its kernel takes 1" if sizes.groups > 1 else ""


def _small_in_float8(inputs: int, outputs: int, kernel: tuple[int, ...]) -> str:
    if min(inputs, outputs) <= _SMALL:
        return f"P14: {inputs} channels in, {outputs} out: an FP8 kernel needs over {_SMALL}"
    taps = math.prod(kernel)
    return f"P14: {taps} taps: an FP8 kernel takes at most {_TAPS}" if taps > _TAPS else ""
