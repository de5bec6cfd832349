"""Clip: clipping to a range whose ends may be trained."""

import numpy as np
import torch
from torch import nn

from fxquant.compat.pytorch_quantization.nn import functional as QF
from fxquant.errors import OptionError

Bound = float | np.ndarray | torch.Tensor


class Clip(nn.Module):
    """Clips a tensor to a range; its gradients are those of ``functional.clip``.

    Args:
        clip_value_min: Lower end: a number, or an array or tensor that broadcasts against the input.
        clip_value_max: Upper end, likewise.
        learn_min: Whether the lower end is trained; it must be a number then, not a tensor.
        learn_max: Whether the upper end is trained, likewise.

    Raises:
        OptionError: If an end that is trained is no number.
    """

    clip_value_min: torch.Tensor
    clip_value_max: torch.Tensor

    def __init__(
        self, clip_value_min: Bound, clip_value_max: Bound, learn_min: bool = False, learn_max: bool = False
    ) -> None:
        super().__init__()
        self._set("clip_value_min", clip_value_min, learn_min)
        self._set("clip_value_max", clip_value_max, learn_max)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the inputs clipped to the range."""
        return QF.clip(inputs, self.clip_value_min, self.clip_value_max)

    def _set(self, name: str, value: Bound, is_learned: bool) -> None:
        if not is_learned:  # not in the state dict, as in NVIDIA's, but it moves with the module
            self.register_buffer(name, torch.as_tensor(value), persistent=False)
        elif isinstance(value, torch.Tensor) or np.size(value) != 1:
            raise OptionError(f"{name} must be scalar to initialize an end that is learned, not a tensor.")
        else:
            self.register_parameter(name, nn.Parameter(torch.tensor(value, dtype=torch.get_default_dtype())))
