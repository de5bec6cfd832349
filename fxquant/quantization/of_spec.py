"""quantizer_of, frozen, stored: the quantizers of prepared and of converted models, affine or float."""

import torch

from fxquant.quantization.affine import FrozenDequantize, FrozenQuantizeDequantize, QuantizeDequantize
from fxquant.quantization.affine.encoding import AffineEncoding
from fxquant.quantization.affine.of_spec import weight_quantizer
from fxquant.quantization.base import EncodingBase, QuantizerBase
from fxquant.quantization.float import (
    FloatEncoding,
    FloatQuantizeDequantize,
    FrozenFloatDequantize,
    FrozenFloatQuantizeDequantize,
)
from fxquant.quantization.spec import QuantizationSpec

Trainable = QuantizeDequantize | FloatQuantizeDequantize
"""A quantizer whose range is found from data."""


def quantizer_of(spec: QuantizationSpec, shape: tuple[int, ...] = ()) -> Trainable:
    """Return a quantizer without a range, unless the spec fixes it; its outputs are plain tensors.

    Args:
        spec: How the tensor is to be quantized.
        shape: Its shape, where it is a constant. Blocks that do not divide it are one range per channel.
    """
    if spec.float_type is None:
        return weight_quantizer(spec, shape)
    kind = spec.float_type
    quantizer = FloatQuantizeDequantize(
        kind.exponent_bits, kind.mantissa_bits, kind.finite, kind.unsigned_zero, shape=spec.scale_shape(shape)
    )
    if spec.fixed_range is not None:
        quantizer.maxval.fill_(max(map(abs, spec.fixed_range)))
        quantizer.allow_overwrite(False)
    quantizer.returns_encoding = False
    return quantizer


def has_codes(quantizer: object) -> bool:
    """Whether a quantizer is trainable and gives codes that are stored: integers, or floats of 8 bits."""
    if isinstance(quantizer, FloatQuantizeDequantize):
        dtype = quantizer.float_type.torch_dtype
        return dtype is not None and dtype.itemsize == 1
    return isinstance(quantizer, QuantizeDequantize)


def frozen(encoding: EncodingBase) -> QuantizerBase:
    """Return the quantizer of an activation whose encoding is fixed."""
    if isinstance(encoding, FloatEncoding):
        return FrozenFloatQuantizeDequantize(encoding)
    assert isinstance(encoding, AffineEncoding)
    return FrozenQuantizeDequantize(encoding)


def stored(encoding: EncodingBase, dtype: torch.dtype) -> QuantizerBase:
    """Return what makes real values, of a type, of a constant's stored codes."""
    if isinstance(encoding, FloatEncoding):
        return FrozenFloatDequantize(encoding, dtype)
    assert isinstance(encoding, AffineEncoding)
    return FrozenDequantize(encoding, dtype)
