"""Patches: what of Python and torch stands in for itself while a model is recorded."""

import builtins
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from fxquant.graph.traced_numbers import fixed, is_traced, record_number

Run = Callable[..., Any]


@contextlib.contextmanager
def patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Put something else in place of an attribute, inside the context."""
    before = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def compiling(is_on: bool) -> Iterator[None]:
    """Let torch say inside the context whether it compiles and exports: models then leave out branches."""
    with (
        patched(torch.compiler, "_is_compiling_flag", is_on),
        patched(torch.compiler, "_is_exporting_flag", is_on),
    ):
        yield


@contextlib.contextmanager
def forward_replaced(module: nn.Module, forward: Run) -> Iterator[None]:
    """Give a module another forward inside the context."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


@contextlib.contextmanager
def attention_fast_path_disabled() -> Iterator[None]:
    """Let nn.MultiheadAttention and the transformer layers call one op after the other."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def takes_no_overrides_once() -> Iterator[None]:
    """Let the next function of torch.nn.functional that asks for overrides run its own body."""
    functional: Any = F
    before = functional.has_torch_function

    def no(*args: Any) -> bool:
        functional.has_torch_function = before
        return False

    functional.has_torch_function = no
    try:
        yield
    finally:
        functional.has_torch_function = before


def range_class() -> Any:
    """Return a stand-in for range which fixes the traced numbers it is given: they are loop counts."""
    original = builtins.range

    class _Meta(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, original)

        def __call__(cls, *args: Any) -> Any:
            return original(*map(fixed, args))

    return _Meta("range", (), {})


def number_function(original: Run) -> Run:
    """Return a stand-in for a function of math which records its call on traced numbers."""

    def call(*args: Any) -> Any:
        return record_number(original, *args) if is_traced(*args) else original(*args)

    return call
