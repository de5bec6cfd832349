"""A float module and a call of it for every quantized class, and for every way through their forwards."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from fxquant.nn import custom


@dataclass(frozen=True)
class Case:
    """A float module, and a call of it."""

    module: nn.Module
    inputs: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)

    def expected(self) -> Any:
        """Return what the float module gives; random ops give the same each time."""
        return seeded(self.module, *self.inputs, **self.kwargs)


def seeded(module: Any, *inputs: Any, **kwargs: Any) -> Any:
    """Call a module with the random state of every other such call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return module(*inputs, **kwargs)


def normal(*shape: int) -> torch.Tensor:
    """Return normal numbers, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def positive(*shape: int) -> torch.Tensor:
    """Return numbers between 0.1 and 0.9."""
    return normal(*shape).sigmoid() * 0.8 + 0.1


def case(module: nn.Module, *inputs: Any, **kwargs: Any) -> Case:
    """Return a case in evaluation mode; a shape stands for normal numbers."""
    given = tuple(
        normal(*value) if isinstance(value, tuple) and is_shape(value) else value for value in inputs
    )
    return Case(module.eval(), given, kwargs)


def is_shape(value: tuple[Any, ...]) -> bool:
    """Whether a tuple holds sizes only."""
    return all(type(size) is int for size in value)


TOKENS = torch.tensor([[0, 3, 5], [5, 1, 0]])
LABELS = torch.tensor([1, -1, 1])
IMAGE = (2, 4, 9, 9)

WEIGHTED = {
    "Conv1d": case(nn.Conv1d(4, 6, 3), (2, 4, 9)),
    "Conv2d": case(nn.Conv2d(4, 6, 3), IMAGE),
    "Conv3d": case(nn.Conv3d(4, 6, 3), (2, 4, 5, 5, 5)),
    "ConvTranspose1d": case(nn.ConvTranspose1d(4, 6, 3), (2, 4, 9)),
    "ConvTranspose2d": case(nn.ConvTranspose2d(4, 6, 3), IMAGE),
    "ConvTranspose3d": case(nn.ConvTranspose3d(4, 6, 3), (2, 4, 5, 5, 5)),
    "Linear": case(nn.Linear(4, 6), (2, 3, 4)),
    "Embedding": case(nn.Embedding(7, 4), TOKENS),
}
VARIANTS = {
    "Conv1d-circular": case(nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 9)),
    "Conv2d-reflect": case(nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="reflect"), IMAGE),
    "Conv2d-replicate": case(nn.Conv2d(4, 6, 3, padding=1, padding_mode="replicate"), IMAGE),
    "Conv2d-same": case(nn.Conv2d(4, 6, (2, 3), padding="same", dilation=2), IMAGE),
    "Conv2d-depthwise": case(nn.Conv2d(4, 8, 3, stride=2, groups=4, bias=False), IMAGE),
    "Conv2d-unbatched": case(nn.Conv2d(4, 6, 3), (4, 9, 9)),
    "ConvTranspose1d-output-padding": case(
        nn.ConvTranspose1d(4, 6, 3, stride=3, padding=1, output_padding=2), (2, 4, 9)
    ),
    "ConvTranspose2d-output-size": case(
        nn.ConvTranspose2d(4, 6, 3, stride=2), (2, 4, 5, 5), output_size=[12, 12]
    ),
    "ConvTranspose2d-groups": case(nn.ConvTranspose2d(4, 6, 3, groups=2, dilation=2, bias=False), IMAGE),
    "ConvTranspose3d-output-size": case(
        nn.ConvTranspose3d(4, 6, 3, stride=2), (2, 4, 3, 3, 3), output_size=[8, 7, 8]
    ),
    "Linear-without-bias": case(nn.Linear(4, 6, bias=False), normal(4)),
    "Embedding-padding": case(nn.Embedding(7, 4, padding_idx=0), TOKENS),
    "Embedding-max-norm": case(nn.Embedding(7, 4, max_norm=1.0), TOKENS),
    "MaxPool2d-indices": case(nn.MaxPool2d(2, return_indices=True), IMAGE),
    "AvgPool2d-padded": case(nn.AvgPool2d(3, padding=1, count_include_pad=False), IMAGE),
    "BatchNorm2d-without-statistics": case(nn.BatchNorm2d(4, track_running_stats=False), IMAGE),
    "LayerNorm-without-weight": case(nn.LayerNorm(9, elementwise_affine=False), IMAGE),
    "GroupNorm-without-weight": case(nn.GroupNorm(2, 4, affine=False), IMAGE),
    "InstanceNorm2d-affine": case(nn.InstanceNorm2d(4, affine=True), IMAGE),
    "Max-along": case(custom.Max(), (2, 3), dim=1),
    "Mean-along": case(custom.Mean(), (2, 3), dim=1, keepdim=True),
    "LSTM-without-state": case(nn.LSTM(4, 5, bidirectional=True), (3, 2, 4)),
    "LSTM-batch-first": case(nn.LSTM(4, 5, proj_size=3, bias=False, batch_first=True), (2, 3, 4)),
    "GRU-unbatched": case(nn.GRU(4, 5, num_layers=2), (3, 4)),
    "RNN-relu": case(nn.RNN(4, 5, nonlinearity="relu"), (3, 2, 4), (1, 2, 5)),
    "GRU-packed": case(nn.GRU(4, 5), pack_padded_sequence(normal(3, 2, 4), torch.tensor([3, 1]))),
    "RNNCell-relu": case(nn.RNNCell(4, 5, nonlinearity="relu"), (2, 4)),
    "EmbeddingBag-offsets": case(
        nn.EmbeddingBag(7, 4, mode="max"), torch.tensor([0, 3, 5, 5]), torch.tensor([0, 2])
    ),
}
