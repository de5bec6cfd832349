"""The growth of calibration's cost, drawn. Needs matplotlib: pip install fxquant[bench]."""

import importlib
from pathlib import Path

from benchmarks.growth import EXPONENT
from benchmarks.timing import Row

_NOT_METHODS = ("grows", "size")


def draw_growth(rows: list[Row], path: Path) -> None:
    """Draw seconds over size, both logarithmic, one frame per axis and one line per method, as an SVG.

    Args:
        rows: What ``measure_growth`` returned.
        path: The file to write.
    """
    matplotlib = importlib.import_module("matplotlib")
    matplotlib.rcParams["svg.hashsalt"] = "growth"  # the same figures, the same file
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(11, 3.6), layout="constrained")
    names = list(dict.fromkeys(row["grows"] for row in rows))
    frames = figure.subplots(1, len(names), squeeze=False)[0]
    methods = [column for column in rows[0] if column not in _NOT_METHODS]
    for name, frame in zip(names, frames, strict=True):
        own = [row for row in rows if row["grows"] == name and row["size"] != EXPONENT]
        sizes = [int(row["size"]) for row in own]
        for method in methods:
            frame.loglog(sizes, [float(row[method]) for row in own], marker=".", label=method)
        slowest = max(float(row[method]) for row in own for method in methods)
        line = [slowest * size / sizes[-1] for size in sizes]
        frame.loglog(sizes, line, color="grey", linestyle=":", label="linear")
        frame.set(xlabel=name, ylabel="seconds")
        frame.grid(visible=True, which="major", alpha=0.3)
    frames[0].legend(fontsize="small")
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
