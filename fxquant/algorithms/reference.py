"""The float model as it was: kept of each tensor whose change changes the model's function.

What rounding, or a corrected bias, is measured by is the user's float model. Once a weight lies on its grid,
running the prepared model in float no longer gives that one; so the tensor carries what it was before.
"""

import contextlib
from collections.abc import Iterable, Iterator

import torch

from fxquant.graph.blocks import Held

_ATTRIBUTE = "_fxquant_float"


def has_original(tensor: torch.Tensor) -> bool:
    """Whether a tensor was changed in a way that changed the model's function."""
    return _ATTRIBUTE in tensor.__dict__


def original_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor as the user's float model has it, detached."""
    kept: torch.Tensor = tensor.__dict__.get(_ATTRIBUTE, tensor)
    return kept.detach()


def keep_original(tensor: torch.Tensor, original: torch.Tensor) -> None:
    """Let a tensor carry what it was in the float model; a copy of the tensor does not."""
    tensor.__dict__[_ATTRIBUTE] = original.detach().clone()


def forget_original(tensor: torch.Tensor) -> None:
    """Undo ``keep_original``."""
    del tensor.__dict__[_ATTRIBUTE]


@contextlib.contextmanager
def as_in_float(held: Iterable[Held]) -> Iterator[None]:
    """Let tensors have the values of the float model inside the context."""
    changed = [tensor for entry in held if (tensor := entry.get()) is not None and has_original(tensor)]
    now = [tensor.data for tensor in changed]
    for tensor in changed:
        tensor.data = original_of(tensor)
    try:
        yield
    finally:
        for tensor, data in zip(changed, now, strict=True):
            tensor.data = data
