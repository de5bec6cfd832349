"""Peers beside fxquant: a row per tool and method, from what `python -m tests.peers.speed` measured."""

from benchmarks.models import MODELS
from benchmarks.result import Result
from benchmarks.timing import Row

# what is measured -> the tables of fxquant it is read from, the column there, what a table calls it
MEASURES = {
    "minmax": ("calibration", "minmax", "calibrate, min-max"),
    "moving_average": ("calibration", "moving_average", "calibrate, moving average"),
    "percentile": ("calibration", "percentile", "calibrate, histogram and percentile"),
    "mse": ("calibration", "mse", "calibrate, least squared error"),
    "sqnr": ("calibration", "sqnr", "calibrate, SQNR"),
    "entropy": ("calibration", "entropy", "calibrate, entropy"),
    "forward": ("simulation", "forward, quantized", "simulated forward"),
}
_TARGET = "onnxruntime"


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
    """Return fxquant's figures of one column, by model; where there are several targets, of one of them."""
    rows = [row for row in result.rows if row.get("target", _TARGET) == _TARGET] if result else []
    return {_name_of(row): row[column] for row in rows if column in row}


def _name_of(row: Row) -> str:
    name = row["model"].split(" (")[0]
    return "MiniLM" if name == "text encoder" else name  # one of its size
