"""weight_quantizer: one range per tensor, channel or block, as a spec asks for."""

import pytest
import torch

from fxquant.quantization import QuantizationSpec
from fxquant.quantization.affine import GroupedBlockQuantizeDequantize, QuantizeDequantize
from fxquant.quantization.affine.of_spec import weight_quantizer

INT4 = {"bitwidth": 4, "block_size": 4}


@pytest.mark.parametrize(
    ("spec", "shape", "scales", "block_size"),
    [
        (QuantizationSpec(), (8, 12), (), None),
        (QuantizationSpec(channel_axis=0), (8, 12), (8, 1), None),
        (QuantizationSpec(channel_axis=0, **INT4), (8, 12), (8, 3), (1, 4)),
        (QuantizationSpec(channel_axis=1, **INT4), (8, 12), (2, 12), (4, 1)),
        (QuantizationSpec(channel_axis=0, **INT4), (8, 4, 3, 3), (8, 1, 1, 1), (1, 4, -1, -1)),
        (QuantizationSpec(channel_axis=0, **INT4), (8, 6), (8, 1), None),
        (QuantizationSpec(**INT4), (8, 12), (), None),
        (QuantizationSpec(channel_axis=0, **INT4), (8,), (8,), None),
    ],
    ids=["tensor", "channels", "blocks", "transposed", "conv", "not divided", "no channels", "vector"],
)
def test_a_spec_gives_the_ranges(
    spec: QuantizationSpec,
    shape: tuple[int, ...],
    scales: tuple[int, ...],
    block_size: tuple[int, ...] | None,
) -> None:
    quantizer = weight_quantizer(spec, shape)
    assert spec.scale_shape(shape) == scales
    assert tuple(quantizer.shape) == scales
    assert (quantizer.block_size or None) == block_size
    assert (quantizer.qmin, quantizer.qmax) == (spec.qmin, spec.qmax)


def test_a_weight_is_within_half_a_step_of_its_blocks() -> None:
    spec = QuantizationSpec(channel_axis=0, **INT4)
    quantizer, weight = weight_quantizer(spec, (8, 12)), torch.randn(8, 12)
    with quantizer.compute_encodings():
        quantizer(weight)
    found = quantizer(weight)
    assert type(found) is torch.Tensor  # the module that holds the weight makes plain tensors of it
    scale = quantizer.get_scale()
    assert scale is not None
    steps = (found - weight).abs().reshape(8, 3, 4) / scale.reshape(8, 3, 1)
    assert steps.max() <= 0.5 + 1e-5  # of float32 rounding


def test_groups_of_blocks_are_multiples_of_a_scale_per_channel() -> None:
    spec = QuantizationSpec(channel_axis=0, decompressed_bits=8, **INT4)
    quantizer = weight_quantizer(spec, (8, 12))
    assert isinstance(quantizer, GroupedBlockQuantizeDequantize)
    with quantizer.compute_encodings():
        quantizer(torch.randn(8, 12))
    encoding = quantizer.get_encodings()
    assert encoding is not None
    multiples = encoding.scale / encoding.per_channel_scale
    torch.testing.assert_close(multiples, multiples.round())
    assert multiples.min() >= 1.0
    assert multiples.max() <= 2.0**4


def test_free_scales_of_blocks_are_a_plain_quantizer() -> None:
    assert type(weight_quantizer(QuantizationSpec(channel_axis=0, **INT4), (8, 12))) is QuantizeDequantize
