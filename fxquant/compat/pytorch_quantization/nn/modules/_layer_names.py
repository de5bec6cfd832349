"""The names of layers while a model is exported: a module does not know its own, so calls are watched."""

import contextlib
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

_WRAPPERS = ("torch.export.", "torch._export.", "torch.jit.", "torch.onnx.")  # modules around the user's
_names: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def layer_name(module: nn.Module) -> str | None:
    """Return the dotted path of a layer in the model that is being exported; None where nobody watches."""
    return _names.get(module)


@contextlib.contextmanager
def watched_names() -> Iterator[None]:
    """Learn the names of the layers of every model that torch.onnx exports in the context."""
    handle = register_module_forward_pre_hook(_learn)
    try:
        yield
    finally:
        handle.remove()
        _names.clear()


def _learn(module: nn.Module, args: Any) -> None:
    is_wrapper = type(module).__module__.startswith(_WRAPPERS)
    if torch.onnx.is_in_onnx_export() and module not in _names and not is_wrapper:
        _names.update({layer: name for name, layer in module.named_modules()})
