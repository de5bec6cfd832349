"""user_line: the line of the user's code that is running."""

import ast
import functools
import linecache
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

_TORCH = str(Path(torch.__file__).parent) + os.sep
_OWN = str(Path(__file__).parent.parent) + os.sep

_Span = tuple[int, int, int, int]  # first line and column, last line and column


@dataclass(frozen=True)
class UserLine:
    """A line of code.

    Attributes:
        file: Its file.
        number: Its number.
        code: What it says.
    """

    file: str
    number: int
    code: str

    def __str__(self) -> str:
        return f'{self.file}:{self.number}: "{self.code}"' if self.file else ""


def user_line() -> UserLine:
    """Return the innermost line on the stack that is neither torch's nor fxquant's."""
    frame, _ = _user_frame()
    if frame is None:
        return UserLine("", 0, "")
    file, number = frame.f_code.co_filename, frame.f_lineno
    return UserLine(file, number, linecache.getline(file, number).strip())


def decides_a_check() -> bool:
    """Whether the value at hand decides an assert, torch._check or an ``if`` that only raises."""
    frame, is_in_check = _user_frame()
    return is_in_check or (frame is not None and _is_check(frame))


def _user_frame() -> tuple[FrameType | None, bool]:
    """Return the innermost frame of the user's code, and whether it called one of torch's checks."""
    frame: FrameType | None = sys._getframe(1)
    is_in_check = False
    while frame is not None and not is_user_file(frame.f_code.co_filename):
        is_in_check |= frame.f_globals.get("__name__") == "torch" and frame.f_code.co_name.startswith(
            "_check"
        )
        frame = frame.f_back
    return frame, is_in_check


def _is_check(frame: FrameType) -> bool:
    """Whether what runs in a frame decides a check and nothing else."""
    spans = list(frame.f_code.co_positions()) if hasattr(frame.f_code, "co_positions") else []
    index = frame.f_lasti // 2
    first, last, start, end = spans[index] if index < len(spans) else (None, None, None, None)
    if first is None or last is None or start is None or end is None:  # Python 3.10 knows lines only
        first, last, start, end = frame.f_lineno, frame.f_lineno, 10**6, 0
    here = first, start, last, end
    return any(
        here in jumps or (test[:2] <= here[:2] and here[2:] <= test[2:])
        for test, jumps in _checks(frame.f_code.co_filename)
    )


@functools.lru_cache(maxsize=256)
def _checks(file: str) -> tuple[tuple[_Span, tuple[_Span, _Span]], ...]:
    """Return where the tests of checks lie, and where Python may say that it branches on their result.

    Tests that are decided before all of them has run, by ``and`` or ``or``, are left out.
    """
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        return ()
    found = [(node, test) for node in ast.walk(tree) if (test := _test(node)) is not None]
    return tuple(
        (_span(test, test), (_span(node, test), _span(node, node)))
        for node, test in found
        if not any(isinstance(part, ast.BoolOp | ast.IfExp) for part in ast.walk(test))
    )


def _span(first: Any, last: Any) -> _Span:
    return first.lineno, first.col_offset, last.end_lineno, last.end_col_offset


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
