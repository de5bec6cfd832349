"""Call: what a formula is told of the call that it computes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import torch

from fxquant.arithmetic.levels import Leveled
from fxquant.quantization import AffineEncoding
from fxquant.quantization.tensor import version_of

_T = TypeVar("_T")


class Kept:
    """What was found out about a constant tensor, until the tensor changes; copies and files leave it out."""

    def __init__(self) -> None:
        self._state: tuple[int, int] | None = None
        self._value: Any = None

    def of(self, constant: torch.Tensor, find: Callable[[], _T]) -> _T:
        """Return what ``find`` gave for a tensor, calling it anew when the tensor was written to."""
        state = constant.data_ptr(), version_of(constant)
        if self._state != state:
            self._state, self._value = state, find()
        found: _T = self._value
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"_state": None, "_value": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Kept":
        return Kept()


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of a module, function or method.

    Attributes:
        called: A module, a function, or the name of a tensor method.
        args: The positional arguments behind the tensors.
        kwargs: The arguments by keyword.
        kept: Holds what the formula found out about the call's constants.
    """

    called: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    kept: Kept = field(default_factory=Kept)

    def on(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Return what the call gives for other tensors in place of its own."""
        args = (*tensors, *self.args)
        if isinstance(self.called, str):
            result: torch.Tensor = getattr(args[0], self.called)(*args[1:], **self.kwargs)
            return result
        result = self.called(*args, **self.kwargs)
        return result

    def argument(self, name: str) -> Any:
        """Return the first argument behind the tensors, or a module's attribute, by its name."""
        if isinstance(self.called, torch.nn.Module) and hasattr(self.called, name):
            return getattr(self.called, name)
        return self.args[0] if self.args else self.kwargs.get(name)


class Formula(Protocol):
    """Computes a call as a runtime's kernel does.

    It returns the levels of the output, or its real values where the output has no grid: a new float tensor.
    """

    def __call__(
        self, call: Call, inputs: tuple[Leveled, ...], output: AffineEncoding | None
    ) -> torch.Tensor: ...
