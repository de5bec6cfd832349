"""QuantizedMultiheadAttention: attention in parts, each of which can hold quantizers."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.errors import QuantizerError
from fxquant.nn import custom
from fxquant.nn.mixin import QuantizationMixin
from fxquant.nn.quantized import QuantizedSoftmax
from fxquant.nn.removal import Removal
from fxquant.nn.standard import StandardForward
from fxquant.quantization import QuantizerBase

_PARTS = ("qk_matmul", "softmax", "qkv_matmul")


@QuantizationMixin.implements(nn.MultiheadAttention)
class QuantizedMultiheadAttention(StandardForward, nn.MultiheadAttention):
    """nn.MultiheadAttention with quantizers: inputs are (query, key, value), outputs (output, weights).

    Its matrix products, its softmax and its output projection are quantized modules with quantizers of their
    own; the projections before them are ``param_quantizers["in_proj_weight"]`` and what the products read.
    As soon as any quantizer is set it computes step by step, never by torch's fused kernel, which reads the
    float parameters. It gives back to float where none is.

    Attributes:
        qk_matmul: The scaled query times the key.
        softmax: The softmax of the scores.
        qkv_matmul: The weights times the value.
        out_proj: The output projection.
    """

    num_inputs, num_outputs = 3, 2
    out_proj: Any

    def __quant_init__(self) -> None:
        super().__quant_init__()
        self.out_proj = QuantizationMixin.from_module(self.out_proj)
        self.qk_matmul, self.qkv_matmul = custom.QuantizedMatMul(), custom.QuantizedMatMul()
        self.softmax = QuantizedSoftmax(dim=-1)
        # nn.TransformerEncoderLayer runs its own fused kernel on the float parameters, unless there is a hook
        self.register_forward_pre_hook(_keep_fused_kernels_out)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """Run attention; see nn.MultiheadAttention for the arguments."""
        if any(isinstance(module, QuantizerBase) for module in self.modules()):
            return super().forward(*inputs, **kwargs)
        return nn.MultiheadAttention.forward(self, *inputs, **kwargs)

    def compute(
        self,
        parameters: dict[str, Any],
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Run attention step by step on the parameters given.

        Raises:
            QuantizerError: If it is to be causal without a mask.
        """
        if is_causal and attn_mask is None:
            raise QuantizerError(
                "is_causal is a hint and needs an attn_mask.",
                remedy="Pass nn.Transformer.generate_square_subsequent_mask(length).",
            )
        has_batch, is_turned = query.dim() == 3, query.dim() == 3 and not self.batch_first
        states = [_batch_first(state, has_batch, is_turned) for state in (query, key, value)]
        q, k, v = (self._heads(state) for state in self._projected(parameters, *states))
        padding = None if key_padding_mask is None else _additive(key_padding_mask, q)
        mask = None if attn_mask is None else _additive(attn_mask, q)
        k, v, mask, padding = self._extended(parameters, k, v, mask, padding)
        scores = self.qk_matmul(q * math.sqrt(1.0 / self.head_dim), k.transpose(-2, -1))
        if mask is not None:
            scores = scores + (mask if mask.dim() == 2 else mask.reshape(-1, *scores.shape[1:]))
        if padding is not None:
            scores = scores + padding.reshape(-1, 1, 1, k.shape[2])
        weights = F.dropout(
            self.softmax(scores), self.dropout, self.training
        )  # [batch, heads, length, source]
        output = self.out_proj(self.qkv_matmul(weights, v).transpose(1, 2).flatten(2))
        weights = weights.mean(dim=1) if average_attn_weights else weights
        output = output if has_batch else output.squeeze(0)
        shown = weights if has_batch else weights.squeeze(0)
        return output.transpose(0, 1) if is_turned else output, shown if need_weights else None

    def _projected(self, parameters: dict[str, Any], *states: torch.Tensor) -> list[torch.Tensor]:
        """Return query, key and value after the projections before attention."""
        packed, bias = parameters["in_proj_weight"], parameters["in_proj_bias"]
        separate = [parameters[f"{name}_proj_weight"] for name in "qkv"]
        weights = separate if packed is None else packed.chunk(3)
        biases = [None] * 3 if bias is None else bias.chunk(3)
        return [F.linear(*operands) for operands in zip(states, weights, biases, strict=True)]

    def _heads(self, state: torch.Tensor) -> torch.Tensor:
        """Return [batch, heads, length, head] for [batch, length, heads * head]."""
        return state.reshape(*state.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def _extended(
        self, parameters: dict[str, Any], k: Any, v: Any, mask: Any, padding: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Return key, value and masks with the positions that bias_k, bias_v and add_zero_attn add."""
        batch = k.shape[0]
        if parameters.get("bias_k") is not None:
            added = [self._heads(parameters[name].expand(batch, -1, -1)) for name in ("bias_k", "bias_v")]
            k, v = torch.cat((k, added[0]), dim=2), torch.cat((v, added[1]), dim=2)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        added_positions = (parameters.get("bias_k") is not None) + self.add_zero_attn
        mask = None if mask is None else F.pad(mask, (0, added_positions))
        padding = None if padding is None else F.pad(padding, (0, added_positions))
        return k, v, mask, padding

    @contextlib.contextmanager
    def compute_encodings(self) -> Iterator[None]:
        """Calibrate all quantizers, those of the parts too; see ``QuantizationMixin``."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(super().compute_encodings())
            for part in self._parts():
                stack.enter_context(part.compute_encodings())
            yield

    def compute_param_encodings(self) -> None:
        """Calibrate the quantizers of the parameters, those of the output projection too."""
        super().compute_param_encodings()
        self.out_proj.compute_param_encodings()

    def in_float(self) -> Removal:
        """Let the module run in float inside the context, its parts too."""
        removal = super().in_float()
        for part in self._parts():
            removal += part.in_float()
        return removal

    def get_original_module(self) -> nn.Module:
        """Return the torch module without quantizers and parts; it shares the parameters."""
        original = super().get_original_module()
        for name in _PARTS:
            del original._modules[name]
        original.out_proj = self.out_proj.get_original_module()
        hooks = original._forward_pre_hooks
        for key in [key for key, hook in hooks.items() if hook is _keep_fused_kernels_out]:
            del hooks[key]
        return original

    def _parts(self) -> list[QuantizationMixin]:
        return [self.out_proj, *(getattr(self, name) for name in _PARTS)]


def _keep_fused_kernels_out(module: nn.Module, args: Any) -> None:
    pass


def _batch_first(state: torch.Tensor, has_batch: bool, is_turned: bool) -> torch.Tensor:
    """Return [batch, length, features]."""
    batched = state if has_batch else state.unsqueeze(0)
    return batched.transpose(0, 1) if is_turned else batched


def _additive(mask: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a mask to add to scores: where a boolean one is true, minus infinity."""
    if mask.dtype is not torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, -math.inf)
