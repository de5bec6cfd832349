"""collections_paused: work on large graphs without Python's search for cycles."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collections_paused() -> Iterator[None]:
    """Let Python not look for cycles inside the context: each look at a large heap may cost a forward."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
