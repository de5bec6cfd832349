"""stub_text: what type checkers and readers see of classes that are made from the op table."""

from collections import defaultdict
from types import ModuleType

from torch import nn

from fxquant.ops.module_form import HOME

_LINE = 110
_HEAD = '"""Generated from the op table; `make golden` writes it anew. The classes of {name}.py."""'


def stub_text(module: ModuleType) -> str:
    """Return the .pyi file of a module whose classes are made, not written."""
    classes: list[type] = [getattr(module, name) for name in sorted(module.__all__)]
    bases = {base for made in classes for base in made.__bases__}
    foreign, own = (_imports(bases, is_own) for is_own in (False, True))
    names = "".join(f'    "{made.__name__}",\n' for made in classes)
    lines = [f"class {made.__name__}({', '.join(map(_reference, made.__bases__))}): ..." for made in classes]
    head = _HEAD.format(name=module.__name__.rpartition(".")[2])
    blocks = [head, "\n".join(foreign), "\n".join(own), f"__all__ = [\n{names}]", "\n".join(lines)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _room(base: type) -> str:
    """Return the module that a class of a large room is named by; empty for one imported by its own name."""
    if getattr(nn, base.__name__, None) is base:
        return "torch.nn"
    return HOME if base.__module__ == HOME else ""


def _reference(base: type) -> str:
    return f"{_room(base).rpartition('.')[2]}.{base.__name__}".lstrip(".")


def _imports(bases: set[type], is_own: bool) -> list[str]:
    """Return import lines, one for each module or package that names come from."""
    names: dict[str, set[str]] = defaultdict(set)
    for base in bases:
        path = _room(base) or f"{base.__module__}.{base.__name__}"
        if path.startswith("fxquant.") is is_own:
            package, _, name = path.rpartition(".")
            names[package].add(name)
    return [_import(package, sorted(found)) for package, found in sorted(names.items())]


def _import(package: str, names: list[str]) -> str:
    """Return an import as the formatter writes it."""
    line = f"from {package} import {', '.join(names)}"
    listed = "".join(f"    {name},\n" for name in names)
    return line if len(line) <= _LINE else f"from {package} import (\n{listed})"
