"""The floors of ARCHITECTURE.md, kept by reading the imports of every file under fxquant/."""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "fxquant"
ROOT_INIT = PACKAGE / "__init__.py"  # gathers the public names from every floor
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room imports rooms below its own floor.
FLOORS = {
    "errors": 0,
    "quantization": 1,
    "storage": 1,
    "files": 1,
    "ops": 2,
    "nn": 3,
    "targets": 4,
    "arithmetic": 4,
    "graph": 5,
    "passes": 6,
    "calibration": 7,
    "export": 7,
    "lint": 8,
    "runtimes": 8,
    "algorithms": 8,
    "analysis": 9,
    "api": 10,
    "quantsim": 10,
    "cli": 10,
    "__main__": 11,
}
BASES = {
    "api"
}  # what its siblings on a floor may import: the facade and the command line are made of the verbs
COMPAT_MAY_IMPORT = {"compat", "errors", "quantization", "nn", "api", "quantsim"}  # a thin face
COMPAT_MAY_IMPORT |= {"export"}  # its quantizers put their own nodes into what torch.onnx.export traces

# Packages that only these rooms import.
ONNX_ROOMS = {"export", "lint", "runtimes"}
CONFINED = {
    "onnx": ONNX_ROOMS,
    "onnx_ir": ONNX_ROOMS,
    "onnxscript": ONNX_ROOMS,
    "onnxruntime": {"runtimes"},
    "onnxruntime_qnn": {"runtimes"},
    "openvino": {"runtimes"},
}
BANNED_NAMES = {"utils", "helpers", "common", "misc", "manager"}
NAMED_ELSEWHERE = PACKAGE / "compat" / "pytorch_quantization"  # NVIDIA's module paths, in users' imports
MAX_LINES = 300


def test_every_module_lives_in_a_room_with_a_floor() -> None:
    rooms = {_room(path) for path in MODULES if path != ROOT_INIT}
    assert rooms, "no modules found"
    assert rooms - FLOORS.keys() - {"compat"} == set()


def test_rooms_import_only_lower_floors() -> None:
    assert [
        f"{where} imports {name}"
        for path in MODULES
        if path != ROOT_INIT
        for where, name in _imports(path)
        if name.split(".")[0] == "fxquant" and not _may_import(_room(path), name.split(".")[1:2])
    ] == []


def test_packages_stay_in_their_rooms() -> None:
    assert [
        f"{where} imports {name}"
        for path in MODULES
        for where, name in _imports(path)
        if _room(path) not in CONFINED.get(name.split(".")[0], {_room(path)})
    ] == []


def test_imports_are_absolute() -> None:
    assert [where for path in MODULES for where, name in _imports(path) if name.startswith(".")] == []


def test_only_the_command_line_prints() -> None:
    assert [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in MODULES
        if _room(path) != "cli"
        for node in ast.walk(_parse(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ] == []


def test_no_file_is_a_drawer_for_everything() -> None:
    names = {
        path: {part.strip("_") for part in path.relative_to(PACKAGE).with_suffix("").parts}
        for path in MODULES
        if NAMED_ELSEWHERE not in path.parents
    }
    assert [str(path) for path, parts in names.items() if parts & BANNED_NAMES] == []


def test_no_file_is_longer_than_five_minutes_of_reading() -> None:
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def _may_import(room: str, target: list[str]) -> bool:
    """Say whether a room may import fxquant.<target>; nobody may import the package root."""
    if not target or target[0] not in FLOORS.keys() | {"compat"}:
        return False
    other = target[0]
    if room == "compat":
        return other in COMPAT_MAY_IMPORT
    if other == "compat":
        return False
    is_base = other in BASES and FLOORS[other] == FLOORS[room]
    return room == other or is_base or FLOORS[other] < FLOORS[room]


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (file:line, dotted name) of every import at any depth; relative ones start with a dot."""
    for node in ast.walk(_parse(path)):
        where = f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import):
            yield from ((where, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((where, f"{module}.{alias.name}") for alias in node.names)
