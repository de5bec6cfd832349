"""kept_state: let a model run without a trace in it."""

import contextlib
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

_HOLDERS = ("_parameters", "_buffers", "_modules")
_SEQUENCES = (list, deque)
_KEYED = (dict, OrderedDict, defaultdict)


@contextlib.contextmanager
def without_gradients(model: nn.Module) -> Iterator[None]:
    """Let no parameter require a gradient inside the context, so that a run keeps nothing for one."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


@contextlib.contextmanager
def kept_state(model: nn.Module) -> Iterator[None]:
    """Put back every buffer, attribute and hook of a model's modules, and what they hold, on the way out.

    Tensors, lists, dicts, sets and deques get their contents back, inside each other too; other objects are
    left to themselves.
    """
    put_back = [restore for module in model.modules() for restore in _restores(module)]
    try:
        yield
    finally:
        with torch.no_grad():
            for restore in put_back:
                restore()


def _restores(module: nn.Module) -> Iterator[Callable[[], None]]:
    for holder in (vars(module), module._buffers):
        before = {name: value for name, value in holder.items() if name not in _HOLDERS}
        yield from filter(None, map(_restore_contents, before.values()))
        yield _restore_names(holder, before)


def _restore_names(holder: dict[str, Any], before: dict[str, Any]) -> Callable[[], None]:
    def restore() -> None:
        for name in [name for name in holder if name not in before and name not in _HOLDERS]:
            del holder[name]
        holder.update(before)

    return restore


def _restore_contents(value: Any) -> Callable[[], None] | None:
    """Return what puts back the contents of a tensor or container; None for any other value."""
    if isinstance(value, torch.Tensor):
        contents = value.detach().clone()
        return lambda: None if torch.equal(value, contents) else _write(value, contents)
    if type(value) not in (*_SEQUENCES, *_KEYED, set):
        return None
    copied = value.copy()
    items = copied.values() if type(value) in _KEYED else copied
    inner = [put_back for item in items if (put_back := _restore_contents(item)) is not None]

    def restore() -> None:
        value.clear()
        value.extend(copied) if type(value) in _SEQUENCES else value.update(copied)
        for put_back in inner:
            put_back()

    return restore


def _write(value: torch.Tensor, contents: torch.Tensor) -> None:
    """Write a tensor's contents back, but for one that shares memory with itself: nothing can write there."""
    if all(size < 2 or stride for size, stride in zip(value.shape, value.stride(), strict=True)):
        value.copy_(contents)
