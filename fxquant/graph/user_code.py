"""user_line: the line of the user's code that is running."""

import ast
import functools
import linecache
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

_TORCH = str(Path(torch.__file__).parent) + os.sep
_OWN = str(Path(__file__).parent.parent) + os.sep


@dataclass(frozen=True)
class UserLine:
    """A line of code.

    Attributes:
        file: Its file.
        number: Its number.
        code: What it says.
        is_assert: Whether the value at hand decides an assert, or an ``if`` that only raises.
    """

    file: str
    number: int
    code: str
    is_assert: bool = False

    def __str__(self) -> str:
        return f'{self.file}:{self.number}: "{self.code}"' if self.file else ""


def user_line() -> UserLine:
    """Return the innermost line on the stack that is neither torch's nor fxquant's."""
    frame: FrameType | None = sys._getframe(1)
    is_check = False
    while frame is not None and not is_user_file(frame.f_code.co_filename):
        is_check |= frame.f_globals.get("__name__") == "torch" and frame.f_code.co_name.startswith("_check")
        frame = frame.f_back
    if frame is None:
        return UserLine("", 0, "")
    file, number = frame.f_code.co_filename, frame.f_lineno
    code = linecache.getline(file, number).strip()
    return UserLine(
        file, number, code, is_check or any(first <= number <= last for first, last in _checks(file))
    )


@functools.lru_cache(maxsize=256)
def _checks(file: str) -> tuple[tuple[int, int], ...]:
    """Return the first and last lines of what decides an assert, or an ``if`` that does nothing but raise."""
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ()
    tests = [test for node in ast.walk(tree) if (test := _test(node)) is not None]
    decided = [
        test for test in tests if not any(isinstance(node, ast.Or | ast.IfExp) for node in ast.walk(test))
    ]
    return tuple((test.lineno, test.end_lineno or test.lineno) for test in decided)


def _test(node: ast.AST) -> ast.expr | None:
    """Return what an assert, an ``if`` that only raises or a call of torch._check decides by."""
    if isinstance(node, ast.Assert):
        return node.test
    if (
        isinstance(node, ast.If)
        and not node.orelse
        and all(isinstance(line, ast.Raise) for line in node.body)
    ):
        return node.test
    is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and bool(node.value.args)
    function = node.value.func if is_call else None  # type: ignore[attr-defined]  # a call, then
    is_check = isinstance(function, ast.Attribute) and function.attr.startswith("_check")
    return node.value.args[0] if is_check else None  # type: ignore[attr-defined]  # a call, then


def is_user_file(file: str) -> bool:
    """Whether a file holds the user's code."""
    return not file.startswith((_TORCH, _OWN)) and "<" not in file
