"""QuantizedMultiheadAttention: step by step it computes what torch does, and no fused kernel passes it by."""

from typing import Any

import pytest
import torch
from torch import nn

from fxquant.errors import QuantizerError
from fxquant.nn import QuantizationMixin
from fxquant.quantization.affine import QuantizeDequantize
from tests.nn.cases import normal

X, CROSS = normal(5, 3, 8), normal(6, 3, 8)
MASK = nn.Transformer.generate_square_subsequent_mask(5)
PADDING = torch.tensor([[False] * 4 + [True], [False] * 5, [False] * 3 + [True] * 2])
PER_HEAD = normal(6, 5, 5)

CALLS: dict[str, tuple[dict[str, Any], tuple[torch.Tensor, ...], dict[str, Any]]] = {
    "plain": ({}, (X, X, X), {}),
    "without-weights": ({}, (X, X, X), {"need_weights": False}),
    "weights-per-head": ({}, (X, X, X), {"average_attn_weights": False}),
    "batch-first": ({"batch_first": True}, (X, X, X), {}),
    "unbatched": ({}, (X[:, 0], X[:, 0], X[:, 0]), {}),
    "unbatched-mask": ({}, (X[:, 0], X[:, 0], X[:, 0]), {"attn_mask": MASK}),
    "cross": ({}, (X, CROSS, CROSS), {}),
    "other-sizes": ({"kdim": 4, "vdim": 6}, (X, CROSS[..., :4], CROSS[..., :6]), {}),
    "without-bias": ({"bias": False}, (X, X, X), {}),
    "bias-k-v": ({"add_bias_kv": True}, (X, X, X), {"attn_mask": MASK, "key_padding_mask": PADDING}),
    "zero-attention": ({"add_zero_attn": True}, (X, X, X), {"attn_mask": MASK, "key_padding_mask": PADDING}),
    "mask": ({}, (X, X, X), {"attn_mask": MASK}),
    "boolean-mask": ({}, (X, X, X), {"attn_mask": MASK.isinf()}),
    "mask-per-head": ({}, (X, X, X), {"attn_mask": PER_HEAD}),
    "causal": ({}, (X, X, X), {"attn_mask": MASK, "is_causal": True, "need_weights": False}),
    "padding": ({}, (X, X, X), {"key_padding_mask": PADDING}),
    "mask-and-padding": ({}, (X, X, X), {"attn_mask": MASK, "key_padding_mask": PADDING}),
}


def quantizer(bitwidth: int = 8, limit: float = 4.0) -> QuantizeDequantize:
    """Return a quantizer of a given fineness."""
    made = QuantizeDequantize((), bitwidth, True)
    made.set_range(-limit, limit)
    return made


def attention(**options: Any) -> nn.MultiheadAttention:
    """Return attention with biases that are not zero."""
    torch.manual_seed(0)
    made = nn.MultiheadAttention(8, 2, **options).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


@pytest.mark.parametrize(("options", "inputs", "kwargs"), CALLS.values(), ids=CALLS)
def test_step_by_step_it_computes_what_torch_computes(
    options: dict[str, Any], inputs: tuple[torch.Tensor, ...], kwargs: dict[str, Any]
) -> None:
    module = QuantizationMixin.from_module(attention(**options))
    module.output_quantizers[0] = quantizer(30, 16.0)
    output, weights = module(*inputs, **kwargs)
    expected, expected_weights = attention(**options)(*inputs, **kwargs)
    # torch's fused kernel takes its sums in another order: some 80 roundings of float32 on values about 1
    torch.testing.assert_close(output.as_subclass(torch.Tensor), expected, rtol=1e-5, atol=1e-5)
    assert (weights is None) == (expected_weights is None)
    assert weights is None or torch.allclose(weights, expected_weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["in_proj_weight", "in_proj_bias"])
def test_a_parameter_quantizer_changes_the_output(name: str) -> None:
    module = QuantizationMixin.from_module(attention())
    module.param_quantizers[name] = quantizer(3)
    with torch.no_grad():
        assert not torch.allclose(module(X, X, X)[0], attention()(X, X, X)[0], atol=1e-3)


@pytest.mark.parametrize("part", ["qk_matmul", "softmax", "qkv_matmul", "out_proj"])
def test_each_part_has_quantizers(part: str) -> None:
    module = QuantizationMixin.from_module(attention())
    getattr(module, part).output_quantizers[0] = quantizer(3)
    with torch.no_grad():
        assert not torch.allclose(module(X, X, X)[0], attention()(X, X, X)[0], atol=1e-3)


def test_all_quantizers_are_calibrated() -> None:
    module = QuantizationMixin.from_module(attention())
    for part in (module, *module._parts()):
        for room in (part.input_quantizers, part.output_quantizers):
            room.extend([])
            for index in range(len(room)):
                room[index] = QuantizeDequantize((), 8, True)
    module.out_proj.param_quantizers["weight"] = QuantizeDequantize((8, 1), 8, True)
    with module.compute_encodings():
        output, _ = module(X, X, X)
    assert torch.allclose(output, module.get_original_module()(X, X, X)[0], atol=0.05)
    made = [m for m in module.modules() if isinstance(m, QuantizeDequantize)]
    assert all(m.is_initialized() for m in made)


def test_in_float_the_parts_run_in_float_too() -> None:
    module = QuantizationMixin.from_module(attention())
    module.softmax.output_quantizers[0] = quantizer(2)
    with torch.no_grad(), module.in_float():
        assert torch.equal(module(X, X, X)[0], attention()(X, X, X)[0])
    assert module.softmax.output_quantizers[0] is not None


def test_the_fused_kernel_of_an_encoder_layer_does_not_pass_by_the_quantizers() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    with torch.no_grad():
        expected = layer(X)
        layer.self_attn = QuantizationMixin.from_module(layer.self_attn)
        layer.linear1 = QuantizationMixin.from_module(layer.linear1)
        torch.testing.assert_close(layer(X), expected)
        layer.linear1.output_quantizers[0] = quantizer(2)
        assert not torch.allclose(layer(X), expected, atol=1e-2)


def test_the_torch_module_comes_back_without_parts_and_hooks() -> None:
    module = QuantizationMixin.from_module(attention())
    original = module.get_original_module()
    assert dict(original.named_modules()).keys() == dict(attention().named_modules()).keys()
    assert not original._forward_pre_hooks
    assert original.out_proj.weight is module.out_proj.weight


def test_causal_attention_without_a_mask_is_an_error() -> None:
    module = QuantizationMixin.from_module(attention())
    module.softmax.output_quantizers[0] = quantizer()
    with pytest.raises(QuantizerError, match="is_causal is a hint and needs an attn_mask"):
        module(X, X, X, is_causal=True)
