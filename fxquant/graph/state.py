"""kept_state: let a model run without a trace in it."""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

_CONTENTS = (list, dict, set, OrderedDict)


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
    """Put back every buffer, attribute and hook of a model's modules, and what they hold, on the way out."""
    saved = [_attributes(module) for module in model.modules()]
    try:
        yield
    finally:
        for attributes in saved:
            for holder, before in attributes:
                _put_back(holder, before)


_Saved = dict[str, tuple[Any, Any]]  # by name: the object, and a copy of what it holds where that may change


def _attributes(module: nn.Module) -> list[tuple[dict[str, Any], _Saved]]:
    own = {name: value for name, value in vars(module).items() if name not in _HOLDERS}
    return [(vars(module), _saved(own)), (module._buffers, _saved(module._buffers))]


def _saved(values: dict[str, Any]) -> _Saved:
    return {name: (value, _contents(value)) for name, value in values.items()}


def _contents(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    return value.copy() if type(value) in _CONTENTS else None  # type: ignore[attr-defined]  # one of _CONTENTS


def _put_back(holder: dict[str, Any], before: _Saved) -> None:
    for name in [name for name in holder if name not in before and name not in _HOLDERS]:
        del holder[name]
    for name, (value, contents) in before.items():
        if isinstance(value, torch.Tensor):
            with torch.no_grad():
                value.copy_(contents)
        elif isinstance(value, list):
            value[:] = contents
        elif contents is not None:
            value.clear()
            value.update(contents)
        holder[name] = value


_HOLDERS = ("_parameters", "_buffers", "_modules")
