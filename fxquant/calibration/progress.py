"""with_progress: a bar with rows per second and the time left, where there is a terminal."""

import time
from collections.abc import Generator, Iterable

import torch.distributed as dist
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from fxquant.calibration.batches import as_batches
from fxquant.graph import Example
from fxquant.graph.fresh import rows_of

Calls = Generator[Example, None, None]

_SECONDS = 0.25  # between two drawings, each of 0.6 ms


def with_progress(
    calls: Iterable[Example],
    data: object,
    progress: bool = True,
    *,
    title: str = "Calibrating",
    console: Console | None = None,
) -> Calls:
    """Yield calls and show how far they are.

    The bar is drawn on stderr between two calls, not by a thread, and gone at the end. There is none without
    a terminal, and in a distributed job only the first process has one. Close the iterator
    (``contextlib.closing``) to remove the bar where the loop ends early.

    Args:
        calls: The calls of the model.
        data: The data they come from, whose number of batches tells the time left.
        progress: Whether to show it.
        title: What is being done.
        console: Where to draw; None for stderr.
    """
    console = console or Console(stderr=True)
    is_first = not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
    if not (progress and console.is_terminal and is_first):
        return _plain(calls)
    return _drawn(calls, as_batches(data).count(), title, console)


def _plain(calls: Iterable[Example]) -> Calls:
    yield from calls


def _drawn(calls: Iterable[Example], total: int | None, title: str, console: Console) -> Calls:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task(title, total=total, rows=0, seconds=0.0)
        bar.refresh()
        start = drawn = time.monotonic()
        rows = 0
        for done, call in enumerate(calls, 1):
            yield call
            now, rows = time.monotonic(), rows + rows_of(call)
            if now - drawn >= _SECONDS:
                drawn = now
                bar.update(task, completed=done, rows=rows, seconds=now - start, refresh=True)


class _Rate(ProgressColumn):
    """Rows per second since the start."""

    def render(self, task: Task) -> Text:
        seconds = float(task.fields["seconds"])
        return Text(f"{task.fields['rows'] / seconds:.4g} rows/s" if seconds else "")
