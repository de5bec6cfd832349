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

    A copy is the same part of the file, mapped anew: neither sees what is written into the other. Tensors that
    were written are left out, for deepcopy to copy.
    """
    memory = MappedMemory()
    files: dict[Path, mmap.mmap] = {}
    copies: dict[int, Any] = {}
    for tensor in _tensors(model):
        region = None if id(tensor) in copies else memory.region_of(tensor)
        if region is not None and memory.is_unwritten(tensor):
            copies[id(tensor)] = _mapped_again(tensor, region, files)
    return copies


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and tensor.is_leaf and tensor.grad is None and not vars(tensor):
                yield tensor


def _mapped_again(tensor: torch.Tensor, region: Region, files: dict[Path, mmap.mmap]) -> torch.Tensor:
    if region.path not in files:
        files[region.path] = map_file(region.path)
    offset = region.offset + tensor.data_ptr() - region.start
    plain = tensor_at(files[region.path], offset, tensor.dtype, tensor.shape, tensor.stride())
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(plain, requires_grad=tensor.requires_grad)
    return plain.requires_grad_(tensor.requires_grad)
