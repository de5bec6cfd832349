"""replaced: other functions in the place of torch functions, for the time of a context."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.overrides import TorchFunctionMode, get_overridable_functions

from fxquant.errors import QuantizerError

Function = Callable[..., Any]


@contextmanager
def replaced(substitutes: Mapping[Function, Function]) -> Iterator[None]:
    """Call another function inside the context wherever a torch function of the mapping is called.

    The substitute itself runs with the torch functions as they are.

    Raises:
        QuantizerError: If torch does not let a function be replaced.
    """
    for function in substitutes:
        if not is_replaceable(function):
            raise QuantizerError(f"PyTorch doesn't support overriding {function}.")
    with _Replacement(substitutes):
        yield


def is_replaceable(function: object) -> bool:
    """Whether torch lets calls of a function be taken over."""
    if not _replaceable:
        for functions in get_overridable_functions().values():
            _replaceable.update(functions)
    return function in _replaceable


class _Replacement(TorchFunctionMode):
    def __init__(self, substitutes: Mapping[Function, Function]) -> None:
        super().__init__()
        self._substitutes = substitutes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._substitutes.get(func, func)(*args, **(kwargs or {}))


_replaceable: set[object] = set()  # found once: it takes a moment
