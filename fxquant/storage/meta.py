"""parameters_on_meta: build a model whose parameters take no memory and whose buffers are real."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Put the parameters of every module that is built inside the context on the meta device.

    Unlike ``with torch.device("meta")`` it leaves buffers real: those that a constructor computes and that no
    file holds, such as the frequencies of a rotary embedding, have their values. One parameter at a time is
    allocated; torch's own layers do not fill it.

    Example:
        >>> import fxquant, torch
        >>> with fxquant.parameters_on_meta():
        ...     layer = torch.nn.BatchNorm1d(4)
        >>> layer.weight.device, layer.running_var
        (device(type='meta'), tensor([1., 1., 1., 1.]))
    """
    original = nn.Module.register_parameter

    def register_parameter(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
        original(module, name, param)
        held = module._parameters[name]
        if held is not None and held.device.type != "meta":
            state: dict[str, Any] = vars(held)
            moved = torch.empty_like(held, device="meta", memory_format=torch.preserve_format)
            module._parameters[name] = type(held)(moved, requires_grad=held.requires_grad)
            vars(module._parameters[name]).update(state)

    setattr(nn.Module, "register_parameter", register_parameter)  # noqa: B010  # mypy: no plain assignment
    try:
        yield
    finally:
        setattr(nn.Module, "register_parameter", original)  # noqa: B010
