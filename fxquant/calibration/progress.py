"""with_progress: a progress bar where there is a terminal."""

from collections.abc import Iterator, Sized

from rich.console import Console
from rich.progress import track

from fxquant.graph import Example


def with_progress(calls: Iterator[Example], batches: object, is_shown: bool = True) -> Iterator[Example]:
    """Yield calls, and show how far they have come where there is a terminal."""
    total = len(batches) if isinstance(batches, Sized) else None
    console = Console(stderr=True)
    hidden = not (is_shown and console.is_terminal)
    yield from track(calls, "Calibrating", total=total, console=console, transient=True, disable=hidden)
