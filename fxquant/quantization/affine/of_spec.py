"""weight_quantizer: the quantizer of a weight that a spec asks for, in blocks where it has some."""

from fxquant.quantization.affine.grouped_block import GroupedBlockQuantizeDequantize
from fxquant.quantization.affine.quantizer import QuantizeDequantize
from fxquant.quantization.spec import QuantizationSpec


def weight_quantizer(spec: QuantizationSpec, shape: tuple[int, ...]) -> QuantizeDequantize:
    """Return a quantizer without a range; its outputs are plain tensors.

    Args:
        spec: How the weight is to be quantized.
        shape: Its shape. Where blocks do not divide it there is one range per channel.
    """
    if not spec.has_blocks(shape):
        return QuantizeDequantize.from_spec(spec, shape)
    assert spec.block_size is not None and spec.channel_axis is not None
    sizes = [1 if axis == spec.channel_axis % len(shape) else -1 for axis in range(len(shape))]
    sizes[spec.block_axis] = spec.block_size
    counts = spec.scale_shape(shape)
    if spec.decompressed_bits is None:
        quantizer = QuantizeDequantize(counts, spec.qmin, spec.qmax, spec.symmetric, block_size=tuple(sizes))
    else:
        quantizer = GroupedBlockQuantizeDequantize(
            counts,
            spec.bitwidth,
            spec.symmetric,
            spec.decompressed_bits,
            block_size=tuple(sizes),
            block_grouping=[-1 if axis == spec.block_axis else 1 for axis in range(len(shape))],
        )
    quantizer.returns_encoding = False
    return quantizer
