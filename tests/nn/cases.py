"""A float module and a call of it for every quantized class, and for every way through their forwards."""

from dataclasses import dataclass

import torch
from torch import nn

from fxquant.nn import custom


@dataclass(frozen=True)
class Case:
    """A float module, and a call of it."""

    module: nn.Module
    inputs: tuple[torch.Tensor, ...]
    kwargs: dict[str, object]


def case(module: nn.Module, *shapes: tuple[int, ...], **kwargs: object) -> Case:
    """Return a case with random inputs; evaluation mode, and the same numbers each time."""
    generator = torch.Generator().manual_seed(0)
    return Case(module.eval(), tuple(torch.randn(shape, generator=generator) for shape in shapes), kwargs)


def token_case(module: nn.Embedding) -> Case:
    """Return a case of an embedding, whose input is integers."""
    return Case(module.eval(), (torch.tensor([[0, 3, 5], [5, 1, 0]]),), {})


WEIGHTED = {
    "Conv1d": case(nn.Conv1d(4, 6, 3), (2, 4, 9)),
    "Conv2d": case(nn.Conv2d(4, 6, 3), (2, 4, 9, 9)),
    "Conv3d": case(nn.Conv3d(4, 6, 3), (2, 4, 5, 5, 5)),
    "ConvTranspose1d": case(nn.ConvTranspose1d(4, 6, 3), (2, 4, 9)),
    "ConvTranspose2d": case(nn.ConvTranspose2d(4, 6, 3), (2, 4, 9, 9)),
    "ConvTranspose3d": case(nn.ConvTranspose3d(4, 6, 3), (2, 4, 5, 5, 5)),
    "Linear": case(nn.Linear(4, 6), (2, 3, 4)),
    "Embedding": token_case(nn.Embedding(7, 4)),
}
VARIANTS = {
    "Conv1d-circular": case(nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 9)),
    "Conv2d-reflect": case(nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="reflect"), (2, 4, 9, 9)),
    "Conv2d-replicate": case(nn.Conv2d(4, 6, 3, padding=1, padding_mode="replicate"), (2, 4, 9, 9)),
    "Conv2d-same": case(nn.Conv2d(4, 6, (2, 3), padding="same", dilation=2), (2, 4, 9, 9)),
    "Conv2d-depthwise": case(nn.Conv2d(4, 8, 3, stride=2, groups=4, bias=False), (2, 4, 9, 9)),
    "Conv2d-unbatched": case(nn.Conv2d(4, 6, 3), (4, 9, 9)),
    "ConvTranspose1d-output-padding": case(
        nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1, output_padding=2), (2, 4, 9)
    ),
    "ConvTranspose2d-output-size": case(
        nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 5, 5), output_size=[12, 12]
    ),
    "ConvTranspose2d-groups": case(
        nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2, bias=False), (2, 4, 9, 9)
    ),
    "ConvTranspose3d-output-size": case(
        nn.ConvTranspose3d(4, 6, 3, stride=2), (2, 4, 3, 3, 3), output_size=[8, 7, 8]
    ),
    "Linear-without-bias": case(nn.Linear(4, 6, bias=False), (4,)),
    "Embedding-padding": token_case(nn.Embedding(7, 4, padding_idx=0)),
    "Embedding-max-norm": token_case(nn.Embedding(7, 4, max_norm=1.0)),
    "MaxPool2d-indices": case(nn.MaxPool2d(2, return_indices=True), (2, 4, 9, 9)),
    "AvgPool2d-padded": case(nn.AvgPool2d(3, padding=1, count_include_pad=False), (2, 4, 9, 9)),
}
POOLING = {
    "MaxPool1d": case(nn.MaxPool1d(2), (2, 4, 9)),
    "MaxPool2d": case(nn.MaxPool2d(3, 2, 1), (2, 4, 9, 9)),
    "MaxPool3d": case(nn.MaxPool3d(2), (2, 4, 5, 5, 5)),
    "AvgPool1d": case(nn.AvgPool1d(2), (2, 4, 9)),
    "AvgPool2d": case(nn.AvgPool2d(2), (2, 4, 9, 9)),
    "AvgPool3d": case(nn.AvgPool3d(2), (2, 4, 5, 5, 5)),
    "AdaptiveAvgPool1d": case(nn.AdaptiveAvgPool1d(2), (2, 4, 9)),
    "AdaptiveAvgPool2d": case(nn.AdaptiveAvgPool2d((1, 3)), (2, 4, 9, 9)),
    "AdaptiveAvgPool3d": case(nn.AdaptiveAvgPool3d(1), (2, 4, 5, 5, 5)),
}
CUSTOM = {
    "Add": case(custom.Add(), (2, 3, 4), (3, 1)),
    "Multiply": case(custom.Multiply(), (2, 3, 4), (3, 1)),
    "MatMul": case(custom.MatMul(), (2, 3, 4), (2, 4, 5)),
    "Concat": case(custom.Concat(1), (2, 3), (2, 4), (2, 1)),
}
CLASSES = WEIGHTED | POOLING | CUSTOM
ALL = CLASSES | VARIANTS
