"""releasing: whatever runs inside holds only the mapped parameters that it reads at the moment."""

import contextlib
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fxquant.storage.memory import MappedMemory, release


def releasing(model: nn.Module) -> contextlib.AbstractContextManager[object]:
    """Give back the memory of mapped parameters after each operation that read them, inside the context.

    It does nothing for a model whose parameters lie in no file.
    """
    memory = MappedMemory()
    held = (*model.parameters(), *model.buffers())
    is_mapped = any(memory.region_of(tensor) is not None for tensor in held)
    return _Releasing(memory) if is_mapped else contextlib.nullcontext()


class _Releasing(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch is untyped here
    def __init__(self, memory: MappedMemory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch is untyped here
        self._memory = memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read = [value for value in args if isinstance(value, torch.Tensor)]
        release(tensor for tensor in read if self._memory.region_of(tensor) is not None)
        return result
