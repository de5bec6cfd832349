"""NormNote: what a batch norm that was folded into a layer says of the layer's output."""

from dataclasses import dataclass

import torch
from torch import nn

_MEAN, _SCALE = "folded_norm_mean", "folded_norm_std"


@dataclass(frozen=True, kw_only=True)
class NormNote:
    """The distribution of a layer's output by channel, which a batch norm gave it.

    Both are buffers of the layer: they go through copies, pickles and devices with it, not into state dicts.

    Attributes:
        mean: Mean of each channel: the norm's bias, [out].
        std: Standard deviation of each channel: the magnitude of the norm's gain, [out].
    """

    mean: torch.Tensor
    std: torch.Tensor


def note_norm(layer: nn.Module, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Note the distribution that a folded norm gave each channel of a layer's output."""
    layer.register_buffer(_MEAN, mean.detach().clone(), persistent=False)
    layer.register_buffer(_SCALE, std.detach().clone(), persistent=False)


def norm_note(layer: nn.Module) -> NormNote | None:
    """Return what a norm that was folded into a layer says of its output; None where none was."""
    mean, std = layer._buffers.get(_MEAN), layer._buffers.get(_SCALE)
    return None if mean is None or std is None else NormNote(mean=mean, std=std)
