import contextlib
import io

import pytest
import torch
from rich.console import Console
from torch import nn

import fxquant
from fxquant.calibration import progress as bar
from fxquant.calibration import with_progress
from fxquant.graph import Example

CALLS = [Example(args=(torch.rand(rows, 2),)) for rows in (4, 4, 2)]


@pytest.fixture
def terminal(monkeypatch):
    """A terminal that keeps what is drawn, as often as there are batches."""
    monkeypatch.setattr(bar, "_SECONDS", 0.0)
    return Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)


def drawn(console):
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("data", "count"), [([0, 0, 0], "2/3"), (iter(()), "2/?")], ids=["known length", "unknown length"]
)
def test_bar_shows_batches_and_rows_per_second(data, count, terminal):
    assert list(with_progress(CALLS, data, title="Measuring", console=terminal)) == CALLS
    assert "Measuring" in drawn(terminal)
    assert count in drawn(terminal)
    assert "rows/s" in drawn(terminal)


def test_bar_is_gone_at_the_end(terminal):
    list(with_progress(CALLS, CALLS, console=terminal))
    assert drawn(terminal).endswith("\x1b[2K")  # the line is erased
    assert drawn(terminal).count("\x1b[?25h") == 1  # and the cursor is back


def test_bar_is_gone_where_the_loop_ends_early(terminal):
    with contextlib.closing(with_progress(CALLS, CALLS, console=terminal)) as calls:
        next(calls)
    assert drawn(terminal).count("\x1b[?25h") == 1


@pytest.mark.parametrize(
    ("is_terminal", "wanted"), [(True, False), (False, True)], ids=["not wanted", "no terminal"]
)
def test_there_is_no_bar(is_terminal, wanted):
    console = Console(file=io.StringIO(), force_terminal=is_terminal)
    assert list(with_progress(CALLS, CALLS, progress=wanted, console=console)) == CALLS
    assert drawn(console) == ""


def test_only_the_first_process_has_a_bar(terminal, monkeypatch):
    monkeypatch.setattr(bar.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(bar.dist, "get_rank", lambda: 1)
    assert list(with_progress(CALLS, CALLS, console=terminal)) == CALLS
    assert drawn(terminal) == ""


def test_calibration_draws_nothing_where_there_is_no_terminal(capfd):
    fxquant.calibrate(fxquant.prepare(nn.Linear(2, 2)), [torch.rand(3, 2)])
    assert capfd.readouterr() == ("", "")
