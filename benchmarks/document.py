"""docs/benchmarks.md, from the results that are kept."""

import textwrap
from pathlib import Path

from benchmarks.parts import PARTS, Part
from benchmarks.peers import peer_rows
from benchmarks.result import FOLDER, Result, load_result
from benchmarks.timing import table_of

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
PLOT = DOCUMENT.parent / "plots" / "growth.svg"

_HEAD = (
    "Written by `make bench`, or one part of it by `make bench ARGS=calibration`; one thread, process "
    "CPU time, every ratio against the float model (or one copy of the tensor) in the same process, "
    "median of the rounds. Below 10 % is a tie. A dash: not installed, or no such function."
)
_PEERS = (
    "Written by `python -m tests.peers.speed PEER`, where the peer is installed: the models above, one "
    "thread, each tool against its own float forward in the same process (ONNX Runtime's in a float "
    "session), weights and the final analysis included, batches as `how` says. Each tool quantizes what "
    "it does by default, brevitas only the inputs of convolutions and linear layers. A dash: the tool has "
    "no such method, fails on the model, or was not measured on it."
)


def document_text(folder: Path = FOLDER) -> str:
    """Return the whole document; a part that was never measured is left out."""
    measured = {part.name: load_result(part.name, folder) for part in PARTS}
    results = {name: result for name, result in measured.items() if result is not None}
    peers = load_result("peers", folder)
    machines = list(dict.fromkeys(r.machine for r in [*results.values(), *([peers] if peers else [])]))
    sections = [f"# Benchmarks\n\n{_wrapped(_HEAD)}"]
    sections += [f"Machine {_letter(i)}: {machine}.\n" for i, machine in enumerate(machines)]
    for part in PARTS:
        if part.name in results:
            sections.append(_section(part, results[part.name], machines))
        if part.name == "calibration" and peers:
            table = table_of(peer_rows(results, peers))
            sections.append(f"## Peers\n\n{_wrapped(_PEERS)}{_where(peers, machines)}\n{table}\n")
    return "\n".join(sections)


def _section(part: Part, result: Result, machines: list[str]) -> str:
    plot = f"\n![growth of the cost]({PLOT.relative_to(DOCUMENT.parent)})\n" if part.name == "growth" else ""
    return (
        f"## {part.title}\n\n{_wrapped(part.text)}{_where(result, machines)}\n{table_of(result.rows)}\n{plot}"
    )


def _where(result: Result, machines: list[str]) -> str:
    """Return on which machine, where there are several."""
    return f"Machine {_letter(machines.index(result.machine))}.\n" if len(machines) > 1 else ""


def _wrapped(text: str) -> str:
    return textwrap.fill(text, width=110, break_on_hyphens=False) + "\n"


def _letter(index: int) -> str:
    return chr(ord("A") + index)
