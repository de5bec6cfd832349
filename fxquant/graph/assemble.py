"""Assemble: put tensors into an object that fx has no form for, such as a dataclass or a cache."""

import copy
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class Assemble(nn.Module):
    """Gives a copy of an object with other tensors in it.

    Args:
        template: The object, with a Slot wherever a tensor belongs.
        slots: The slots, in the order of the tensors.
    """

    def __init__(self, template: Any, slots: "list[Slot]") -> None:
        super().__init__()
        self.template, self.slots = template, slots

    @classmethod
    def taking_apart(cls, value: Any) -> "tuple[Assemble, list[torch.Tensor]]":
        """Return the module that assembles objects like this one, and the tensors this one holds."""
        with _TakingOut() as taken:
            template = copy.deepcopy(value)
        return cls(template, taken.slots), taken.tensors

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Return the object, holding these tensors."""
        memo: dict[int, Any] = {id(slot): tensor for slot, tensor in zip(self.slots, tensors, strict=True)}
        return copy.deepcopy(self.template, memo)


class Slot:
    """The place of a tensor in a template."""


class _TakingOut(TorchFunctionMode):
    """Lets copy.deepcopy put slots where tensors are."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: list[Slot] = []
        self.tensors: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not torch.Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            memo[id(tensor)] = Slot()
            self.slots.append(memo[id(tensor)])
            self.tensors.append(tensor)
        return memo[id(tensor)]


def is_plain_container(value: object) -> bool:
    """Whether fx can write a container down: a tuple, a named tuple, a list, or a dict with plain keys."""
    if type(value) is dict:
        return all(isinstance(key, str | int) for key in value)
    is_named_tuple = isinstance(value, tuple) and hasattr(value, "_fields")
    return type(value) in (tuple, list) or (is_named_tuple and not hasattr(value, "n_fields"))
