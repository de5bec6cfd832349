"""Leaves: the tensors and numbers inside nested containers, dataclasses and other objects."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn


def leaves(value: Any) -> Iterator[torch.Tensor | int | float]:
    """Yield the tensors and numbers that a value holds, in a fixed order; each object once."""
    yield from _leaves(value, set())


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Return the tensors that a value holds, in a fixed order."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, torch.Tensor)]


def named_tensors(values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors among named values; those inside a container have its name and a number."""
    named: dict[str, torch.Tensor] = {}
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            named[name] = value
        else:
            named |= {f"{name}_{index}": tensor for index, tensor in enumerate(tensors_in(value))}
    return named


def _leaves(value: Any, seen: set[int]) -> Iterator[torch.Tensor | int | float]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, int | float):
        if not isinstance(value, bool):
            yield value
    elif id(value) not in seen and has_parts(value):
        seen.add(id(value))
        for part in parts_of(value):
            yield from _leaves(part, seen)


def parts_of(value: Any) -> Iterator[Any]:
    """Yield what a container or object holds directly."""
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value
    elif is_dataclass(value):
        yield from (getattr(value, field.name) for field in fields(value))
    else:
        yield from vars(value).values()


def has_parts(value: Any) -> bool:
    """Whether a value is a container, or an object with attributes that is data."""
    if isinstance(value, Mapping | list | tuple):
        return True
    is_leaf = isinstance(value, torch.Tensor | int | float | str | torch.device | torch.dtype)
    is_code = isinstance(value, type | nn.Module) or callable(value)
    return hasattr(value, "__dict__") and not is_leaf and not is_code
