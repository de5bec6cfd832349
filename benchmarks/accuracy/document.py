"""docs/accuracy.md: ours beside peers, from the results that are kept."""

import textwrap
from pathlib import Path

from benchmarks.accuracy.cases import NAMES
from benchmarks.accuracy.settings import SETTINGS
from benchmarks.result import FOLDER, load_result
from benchmarks.timing import Row, table_of

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "accuracy.md"
OURS, PEERS = "accuracy", "accuracy_peers"
_HEAD = (
    "Written by `python -m benchmarks accuracy`, peers by `python -m tests.peers.accuracy PEER` in "
    "environments of their own: the same weights, calibration and evaluation data, one thread. Digits "
    "networks: top-1 of 599 held-out images and output SQNR. MiniLM: cosine of 200 sentence embeddings to "
    "the float ones, mean / worst, and SQNR; Llama (random weights, outlier channels): the same of logits. "
    "Recipes that name tensors were chosen with these evaluation data in sight. "
    "`seconds`: processor time of the recipe, without preparing. A dash: the tool was run in simulation only."
)


def document_text(folder: Path = FOLDER) -> str:
    """Return the whole document; a model that was never measured is left out."""
    kept = [result for name in (OURS, PEERS) if (result := load_result(name, folder)) is not None]
    rows = [row for result in kept for row in result.rows]
    machines = dict.fromkeys(result.machine for result in kept)
    head = textwrap.fill(_HEAD, width=110, break_on_hyphens=False)
    sections = ["# Accuracy\n", head + "\n", *(f"Measured on {machine}.\n" for machine in machines)]
    for name in NAMES:
        found = [row for setting in SETTINGS for row in rows if _is(row, name, setting)]
        if found:
            shown = [{key: _cell(value) for key, value in row.items() if key != "model"} for row in found]
            sections.append(f"## {name[0].upper()}{name[1:]}\n\n{table_of(shown)}\n")
    return "\n".join(sections)


def merged(kept: list[Row], fresh: list[Row]) -> list[Row]:
    """Return kept rows with fresh ones in the place of those of the same job."""
    rows = {_key(row): row for row in kept} | {_key(row): row for row in fresh}
    return list(rows.values())


def _cell(value: str) -> str:
    """Return a value as a cell of a table, which a bar would end; recipes have some."""
    return value.replace("|", "\\|")


def _key(row: Row) -> tuple[str, ...]:
    return tuple(row[column] for column in ("model", "setting", "tool", "recipe"))


def _is(row: Row, name: str, setting: str) -> bool:
    return row["model"] == name and row["setting"] == setting
