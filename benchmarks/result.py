"""The measured rows of each part, in a file of its own: one part is measured without the others."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.timing import Row

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Result:
    """The rows of a part and the machine they were measured on."""

    machine: str
    rows: list[Row]


def save_rows(name: str, rows: list[Row], folder: Path = FOLDER) -> None:
    """Write the rows of a part, with a description of this machine, over its earlier ones."""
    folder.mkdir(exist_ok=True)
    text = json.dumps(asdict(Result(machine=describe_machine(), rows=rows)), indent=1)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def load_result(name: str, folder: Path = FOLDER) -> Result | None:
    """Return the rows of a part; None if it was never measured."""
    path = folder / f"{name}.json"
    return Result(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
