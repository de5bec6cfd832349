"""user_line: the line of the user's code that is running."""

import dis
import linecache
import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

_TORCH = str(Path(torch.__file__).parent)
_OWN = str(Path(__file__).parent.parent)


@dataclass(frozen=True)
class UserLine:
    """A line of code.

    Attributes:
        file: Its file.
        number: Its number.
        code: What it says.
        is_assert: Whether the value at hand decides an assert and nothing else.
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
    while frame is not None and not is_user_file(frame.f_code.co_filename):
        frame = frame.f_back
    if frame is None:
        return UserLine("", 0, "")
    file = frame.f_code.co_filename
    code = linecache.getline(file, frame.f_lineno).strip()
    return UserLine(file, frame.f_lineno, code, _is_assert(frame))


def _is_assert(frame: FrameType) -> bool:
    """Whether a frame stands at the jump of an assert statement."""
    instructions = list(dis.get_instructions(frame.f_code))
    following = [
        i for i in instructions if i.offset > frame.f_lasti and i.opname not in ("CACHE", "NOT_TAKEN")
    ]
    return (bool(following) and following[0].argval is AssertionError) or (
        bool(following) and following[0].opname == "LOAD_ASSERTION_ERROR"
    )


def is_user_file(file: str) -> bool:
    """Whether a file holds the user's code."""
    return not file.startswith((_TORCH, _OWN)) and "<" not in file
