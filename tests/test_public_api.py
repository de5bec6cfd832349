"""Every public change shows as a diff of tests/golden/public_api.txt."""

import enum
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from types import ModuleType

import fxquant


def test_every_package_declares_its_public_names() -> None:
    assert [package.__name__ for package in _packages() if not hasattr(package, "__all__")] == []


def test_public_names_exist() -> None:
    assert [f"{p.__name__}.{name}" for p in _packages() for name in _names(p) if not hasattr(p, name)] == []


def test_public_api_is_the_reviewed_one(golden: Callable[[str, str], None]) -> None:
    lines = [
        _line(f"{p.__name__}.{name}", getattr(p, name)) for p in _packages() for name in sorted(_names(p))
    ]
    golden("\n".join(lines), "public_api")


def _packages() -> Iterator[ModuleType]:
    yield fxquant
    for found in pkgutil.walk_packages(fxquant.__path__, "fxquant."):
        if found.ispkg:
            yield importlib.import_module(found.name)


def _names(package: ModuleType) -> list[str]:
    return list(getattr(package, "__all__", []))


def _line(name: str, value: object) -> str:
    if isinstance(value, enum.EnumMeta):
        return f"{name}: {', '.join(value.__members__)}"
    if inspect.isclass(value):
        return f"class {name}{_signature(value)}"
    if inspect.isroutine(value):
        return f"{name}{_signature(value)}"
    return f"{name}: {type(value).__name__}"


def _signature(value: Callable[..., object]) -> str:
    """Write a signature the way its author did, the same on every Python version and in every run."""
    if inspect.isclass(value) and not any(map(inspect.isfunction, (value.__init__, value.__new__))):
        return ""  # built in C, like an exception's: the text differs between Python versions
    signature = inspect.signature(value)
    parameters = [p.replace(annotation=_bare(p.annotation)) for p in signature.parameters.values()]
    returned = inspect.Signature.empty if inspect.isclass(value) else _bare(signature.return_annotation)
    written = str(signature.replace(parameters=parameters, return_annotation=returned))
    return re.sub(r" at 0x[0-9a-f]+", "", written)


def _bare(annotation: object) -> object:
    return _Bare(annotation) if isinstance(annotation, str) else annotation


class _Bare(str):
    """An annotation kept as text (`from __future__ import annotations`), shown without its quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)
