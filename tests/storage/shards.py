"""Models written as safetensors files and loaded again from them."""

import mmap
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

import fxquant


def written(model: nn.Module, folder: Path, shards: int = 1) -> Path:
    """Write a model's state into a number of files; return the folder."""
    tied = {tensor.data_ptr(): name for name, tensor in reversed(list(model.state_dict().items()))}
    state = {
        name: tensor.contiguous() for name, tensor in model.state_dict().items() if name in tied.values()
    }
    names = list(state)
    for index in range(shards):
        save_file({name: state[name] for name in names[index::shards]}, folder / f"model-{index}.safetensors")
    return folder


def loaded(build: Callable[[], nn.Module], folder: Path) -> nn.Module:
    """Build a model without memory for its parameters, and map them to files."""
    with fxquant.parameters_on_meta():
        model = build().eval()
    fxquant.load_shards(model, folder)
    return model


def chain(layers: int = 4, width: int = 512) -> nn.Module:
    """Return linear layers of 1 MiB each (of 512 x 512 floats) and their biases."""
    return nn.Sequential(
        *(layer for _ in range(layers) for layer in (nn.Linear(width, width), nn.ReLU()))
    ).eval()


def held(model: nn.Module) -> list[str]:
    """Return the weights of a model of which this process holds more than a quarter in memory.

    Linux maps 16 pages around one that is read (proc(5), "pagemap", bit 63): 6 % of a weight of ``chain``.
    """
    return [
        name for name, tensor in model.named_parameters() if tensor.numel() > 2**16 and _share(tensor) > 0.25
    ]


def _share(tensor: torch.Tensor) -> float:
    first, last = tensor.data_ptr() // mmap.PAGESIZE, (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE
    with Path("/proc/self/pagemap").open("rb", buffering=0) as file:
        file.seek(first * 8)
        notes = file.read((last - first) * 8)
    return sum(note >> 7 for note in notes[7::8]) / (last - first)
