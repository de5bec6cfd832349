"""Peers beside fxquant: a row per tool and method, from what `python -m tests.peers.speed` measured."""

from benchmarks.models import MODELS
from benchmarks.result import Result
from benchmarks.timing import Row

# what is measured -> the tables of fxquant it is read from, the column there, what a table calls it
MEASURES = {
    "minmax": ("calibration", "minmax", "calibrate, min-max"),
    "percentile": ("calibration", "percentile", "calibrate, histogram and percentile"),
    "mse": ("calibration", "mse", "calibrate, least squared error"),
    "sqnr": ("calibration", "sqnr", "calibrate, SQNR"),
    "entropy": ("calibration", "entropy", "calibrate, entropy"),
    "forward": ("simulation", "eager", "simulated forward"),
}


def peer_rows(ours: dict[str, Result], peers: Result) -> list[Row]:
    """Return fxquant's row and every peer's of each measure, a column per model."""
    rows = []
    for measure, (part, column, title) in MEASURES.items():
        rows.append(_row(title, "**fxquant**", "", _ours(ours.get(part), column)))
        rows += [
            _row(title, row["peer"], row["note"], row) for row in peers.rows if row["measure"] == measure
        ]
    return rows


def _row(title: str, tool: str, note: str, found: Row) -> Row:
    return {"what": title, "tool": tool, "how": note, **{name: found.get(name, "-") for name in MODELS}}


def _ours(result: Result | None, column: str) -> Row:
    """Return fxquant's figures of one column, by model."""
    rows = result.rows if result else []
    return {row["model"].split(" (")[0]: row[column] for row in rows if column in row}
