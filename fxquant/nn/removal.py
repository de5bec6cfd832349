"""Removal: taking quantizers out of a container, for good or for the time of a context."""

from collections.abc import Iterable
from typing import Any


class Removal:
    """Removes quantizers at once; used as a context, it puts them back at the end.

    Args:
        container: A ModuleList or ModuleDict of quantizers.
        keys: Which ones: an index or name, or several; None for all.
    """

    def __init__(self, container: Any, keys: Any = None) -> None:
        if keys is None:
            keys = keys_of(container)
        chosen: Iterable[Any] = [keys] if isinstance(keys, int | str) else keys
        self._removed = [(container, key, container[key]) for key in chosen]
        for _, key, _ in self._removed:
            container[key] = None

    def __add__(self, other: "Removal") -> "Removal":
        both = Removal({}, ())
        both._removed = self._removed + other._removed
        return both

    def __enter__(self) -> "Removal":
        return self

    def __exit__(self, *error: object) -> None:
        for container, key, quantizer in reversed(self._removed):
            container[key] = quantizer


def keys_of(container: Any) -> list[Any]:
    """Return the names in a ModuleDict, the indices of a ModuleList."""
    return list(container.keys()) if hasattr(container, "keys") else list(range(len(container)))
