"""Ratios of process time in the same rounds, and their table."""

import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 9

Row = dict[str, str]


def ratios(steps: dict[str, Callable[[], object]], base: Callable[[], object]) -> Row:
    """Return the median over rounds of each step's time over the base's in the same round."""
    rounds: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(ROUNDS + 1):
        floor = min(_seconds(base), _seconds(base))
        for name, step in steps.items():
            seconds = _seconds(step)
            if index:  # the first round warms up
                rounds[name].append(seconds / floor)
    return {name: f"{statistics.median(measured):.2f}" for name, measured in rounds.items()}


def table_of(rows: list[Row]) -> str:
    """Return rows as a Markdown table."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def peak_memory() -> int:
    """Return the peak memory of this process in KiB; Linux keeps that of its parent in getrusage's figure."""
    peak = _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if peak is None else peak


def resident_memory() -> int:
    """Return the memory that this process has now, in KiB."""
    return _status("VmRSS") or 0


def _status(field: str) -> int | None:
    """Return a figure of /proc/self/status; None where there is none."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return None


def _seconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start
