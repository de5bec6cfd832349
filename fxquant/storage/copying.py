"""shared_copies: copies of mapped tensors that take no memory until they are written."""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fxquant.storage.mapping import map_file, tensor_at
from fxquant.storage.memory import MappedMemory, Region


def shared_copies(model: nn.Module) -> dict[int, Any]:
    """Return copies of a model's mapped parameters and buffers, as a memo for copy.deepcopy.

    A copy is the same part of the file, mapped anew: neither sees what is written into the other. Tensors
    that were written are left out, for deepcopy to copy.
    """
    memory = MappedMemory()
    files: dict[Path, mmap.mmap | None] = {}
    copies: dict[int, Any] = {}
    for tensor in _tensors(model):
        region = None if id(tensor) in copies else memory.region_of(tensor)
        if region is None or not memory.is_unwritten(tensor):
            continue
        if region.path not in files:
            files[region.path] = _mapped_again(region)
        file = files[region.path]
        if file is not None:
            copies[id(tensor)] = _copy(tensor, file, region)
    return copies


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Yield what deepcopy copies without attributes: parameters, and buffers that have none."""
    for module in model.modules():
        yield from (parameter for parameter in module._parameters.values() if parameter is not None)
        for buffer in module._buffers.values():
            if buffer is not None and buffer.is_leaf and not buffer.requires_grad and not vars(buffer):
                yield buffer


def _mapped_again(region: Region) -> mmap.mmap | None:
    """Return the file of a region as another mapping; None where it is not there any more."""
    try:
        return map_file(region.path, region.inode)
    except (OSError, ValueError):
        return None


def _copy(tensor: torch.Tensor, file: mmap.mmap, region: Region) -> torch.Tensor:
    offset = region.offset + tensor.data_ptr() - region.start
    plain = tensor_at(file, offset, tensor.dtype, tensor.shape, tensor.stride())
    is_parameter = isinstance(tensor, nn.Parameter)
    return nn.Parameter(plain, requires_grad=tensor.requires_grad) if is_parameter else plain
