"""A small Llama of random weights with the outlier channels of a trained one. Knows nothing of fxquant."""

import torch
from torch import Tensor, nn

from tests.zoo.architectures import import_transformers

_VOCABULARY, _WIDTH, _LAYERS = 512, 256, 4
_OUTLIERS, _FACTOR = (7, 101, 190), 40.0
_BATCHES, _ROWS, _TOKENS = 4, 4, 32


class CausalModel(nn.Module):
    """A Llama that returns its logits alone, [N, tokens, vocabulary]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=input_ids, use_cache=False)[0]
        return logits


def build_llama() -> nn.Module:
    """Return the model, always the same one, in evaluation mode.

    In a few channels of the residual stream everything written is 40 times as large, and what reads it, the
    gain of each norm, as many times smaller: Dettmers et al. 2022, LLM.int8(), section 4.
    """
    transformers = import_transformers()
    config = transformers.LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=_WIDTH,
        intermediate_size=2 * _WIDTH + _WIDTH // 2,
        num_hidden_layers=_LAYERS,
        num_attention_heads=4,
        initializer_range=0.05,
        use_cache=False,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(config)
        channels = torch.tensor(_OUTLIERS)
        model.model.embed_tokens.weight[:, channels] *= _FACTOR
        model.model.norm.weight[channels] /= _FACTOR
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[channels] *= _FACTOR
            layer.mlp.down_proj.weight[channels] *= _FACTOR
            layer.input_layernorm.weight[channels] /= _FACTOR / 4  # the rest still stands out behind it
            layer.post_attention_layernorm.weight[channels] /= _FACTOR / 4
    return CausalModel(model).eval()


def token_batches() -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return batches of token ids, [4, 32] each: those that ranges are found on, and those evaluated."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, _VOCABULARY, (2 * _BATCHES * _ROWS, _TOKENS), generator=generator).split(_ROWS)
    return ids[:_BATCHES], ids[_BATCHES:]
