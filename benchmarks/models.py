"""The models that calibration and simulation are measured on, and their batches. Knows nothing of fxquant."""

from collections.abc import Iterator

import torch
from torch import nn

from tests.zoo import architectures, minilm, torchvision_models

Batch = torch.Tensor | dict[str, torch.Tensor]

MODELS = ("resnet18", "resnet50", "mobilenet_v2", "vit_tiny_patch16_224", "MiniLM")
ROWS, PIXELS, TOKENS = 8, 224, 128
_FEWEST_TOKENS = 32  # texts differ in length, so that there is a mask


def load(name: str) -> nn.Module:
    """Return a model in evaluation mode: torchvision's and timm's with random weights."""
    if name == "MiniLM":
        return minilm.build()
    if name == "vit_tiny_patch16_224":
        return architectures.build(f"timm/{name}")[0]
    return torchvision_models.build(name)


def label_of(name: str) -> str:
    """Return what a table calls a model; it says so where the trained weights are not installed."""
    is_random = name == "MiniLM" and minilm.trained_folder() is None
    return f"{name} (random weights)" if is_random else name


def batches_of(name: str, count: int) -> Iterator[Batch]:
    """Yield batches of 8 images of 224 x 224, or of 8 texts padded to 128 tokens; always the same ones."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        if name != "MiniLM":
            yield torch.randn(ROWS, 3, PIXELS, PIXELS, generator=generator)
            continue
        ids = torch.randint(1000, minilm.SIZES["vocab_size"], (ROWS, TOKENS), generator=generator)
        lengths = torch.randint(_FEWEST_TOKENS, TOKENS + 1, (ROWS, 1), generator=generator)
        yield {"input_ids": ids, "attention_mask": (torch.arange(TOKENS) < lengths).long()}


def run(model: nn.Module, batch: Batch) -> object:
    """Return what a model gives for a batch."""
    return model(**batch) if isinstance(batch, dict) else model(batch)
