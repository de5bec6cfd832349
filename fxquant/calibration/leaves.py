"""with_leaves: the same container with other tensors and arrays in it."""

import copy
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence

_LEAVES = (torch.Tensor, np.ndarray, np.generic, PackedSequence)


def with_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a value whose tensors, arrays and packed sequences are changed, in containers of the same kind.

    Looks into dicts, lists, tuples, named tuples and dataclasses; anything else is left as it is. A container
    in which nothing changes is returned itself.
    """
    if isinstance(value, _LEAVES):
        return change(value)
    if isinstance(value, Mapping):
        changed = {key: with_leaves(part, change) for key, part in value.items()}
        return value if _is_same(value.values(), changed.values()) else _with_items(value, changed)
    if isinstance(value, list | tuple):
        parts = [with_leaves(part, change) for part in value]
        return value if _is_same(value, parts) else _of_kind(value, parts)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        changed = {name: with_leaves(getattr(value, name), change) for name in names}
        same = _is_same([getattr(value, name) for name in names], changed.values())
        return value if same else _with_fields(value, changed)
    return value


def is_named_tuple(value: object) -> bool:
    """Whether a value is a named tuple of the user's; a packed sequence is one value."""
    return isinstance(value, tuple) and hasattr(value, "_fields") and not isinstance(value, PackedSequence)


def _is_same(before: Any, after: Any) -> bool:
    return all(old is new for old, new in zip(before, after, strict=True))


def _with_items(value: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    if type(value) is dict or not isinstance(value, MutableMapping):
        return items
    copied = copy.copy(value)  # keeps what a class such as BatchEncoding holds beside its items
    for key, item in items.items():
        copied[key] = item
    return copied


def _of_kind(value: list[Any] | tuple[Any, ...], parts: list[Any]) -> Any:
    return type(value)(*parts) if is_named_tuple(value) else type(value)(parts)


def _with_fields(value: Any, items: dict[str, Any]) -> Any:
    copied = copy.copy(value)
    for name, item in items.items():
        object.__setattr__(copied, name, item)  # frozen ones too: the copy is ours
    return copied
