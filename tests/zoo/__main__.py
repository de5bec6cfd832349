"""Take the zoo through every verb and write docs/zoo.md: python -m tests.zoo [--jobs 2] [name ...].

What is done is kept in .zoo, so that a run that was stopped goes on; --anew forgets it.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.zoo.architectures import NAMES
from tests.zoo.journey import Journey, as_dict, travel

KEPT = Path(__file__).parents[2] / ".zoo"
PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
_SECONDS = 900

_HEAD = """# The zoo

Written by `make zoo`. Each architecture has seeded random weights and goes through capture, prepare,
calibrate (2 batches), convert, export for `onnxruntime` and verify in ONNX Runtime, in a process of its own
on one thread.

- *equal*: whether the captured graph gives what the model gives, within 1e-4 of the norm.
- *way*: how it was captured.
- *cost*: processor time of capture, in forwards of the model on the same inputs (batches of one or two; the
  transformers are tiny, a forward of one takes a millisecond), and in milliseconds.
- *MACs*, *parameters*: share that runs, and is stored, quantized.
- *guards*: values that capture fixed, such as a loop count; *whole*: layers that stay whole and float.
- *steps*: largest difference between simulation and runtime of any op that is fed the runtime's inputs.
- *top-1*: share of rows of all outputs that have their largest entry at the same place, end to end. Random
  weights give ties and near ties, so it says less than the steps.
- *not in the file*: quantized tensors that torch.onnx folds or merges with equal ones.

"""


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2)))
    parser.add_argument("--anew", action="store_true", help="forget what is kept in .zoo")
    parser.add_argument("--one", action="store_true", help="run in this process and print JSON")
    options = parser.parse_args(arguments)
    if options.one:
        import torch

        torch.set_num_threads(1)
        for name in options.names:
            print(json.dumps(as_dict(travel(name))))
        return
    KEPT.mkdir(exist_ok=True)
    for kept in KEPT.glob("*.json") if options.anew else ():
        kept.unlink()
    with ThreadPoolExecutor(options.jobs) as pool:
        journeys = list(pool.map(_kept, options.names))
    if options.names == NAMES:
        PAGE.write_text(page(journeys), encoding="utf-8")


def page(journeys: Sequence[Journey]) -> str:
    """Return the document."""
    captured = sum(journey.is_equal for journey in journeys)
    covered = sum((journey.macs or 0.0) >= 0.99 for journey in journeys)
    verified = sum(journey.max_steps is not None for journey in journeys)
    count = len(journeys)
    summary = (
        f"Of {count} architectures, {captured} are captured with equal outputs, {covered} run at least 99 % "
        f"of their multiply-accumulates quantized, {verified} are exported and verified.\n\n"
    )
    lines = [
        "| architecture | way | equal | cost | ms | MACs | parameters | guards | whole | steps | top-1 "
        "| not in the file |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_row(journey) for journey in journeys),
    ]
    notes = [
        f"- **{j.name}**: {_without_paths(note)}"
        for j in journeys
        for note in (*j.opaque, *j.left_float, j.failure)
        if note
    ]
    return _HEAD + summary + "\n".join([*lines, "", "## Exceptions", "", *notes]) + "\n"


def _without_paths(note: str) -> str:
    """Return a note without the folder that the packages lie in."""
    return re.sub(r"/\S*/site-packages/", "", note)


def _row(journey: Journey) -> str:
    macs = "" if journey.macs is None else f"{journey.macs:.1%}"
    steps = "" if journey.max_steps is None else str(journey.max_steps)
    top1 = "" if journey.top1 is None else f"{journey.top1:.0%}"
    cells = (
        *(journey.name, journey.way, "yes" if journey.is_equal else "**no**", f"{journey.capture_cost:.1f}"),
        *(f"{1000 * journey.capture_seconds:.0f}", macs, f"{journey.parameters:.1%}", str(journey.guards)),
        *(
            str(len(journey.opaque)),
            steps,
            top1,
            str(journey.unmatched) if journey.max_steps is not None else "",
        ),
    )
    return f"| {' | '.join(cells)} |"


def _kept(name: str) -> Journey:
    """Return the journey of an architecture: the one that is kept, or one made now."""
    file = KEPT / f"{name.replace('/', '.')}.json"
    if not file.exists():
        journey = _in_its_own_process(name)
        file.write_text(json.dumps(as_dict(journey)), encoding="utf-8")
        print(f"{name}: {journey.failure or 'verified'}", flush=True)
    return Journey(**json.loads(file.read_text(encoding="utf-8")))


def _in_its_own_process(name: str) -> Journey:
    command = [sys.executable, "-W", "ignore", "-m", "tests.zoo", "--one", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Journey(name=name, failure=f"took more than {_SECONDS} s")
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        return Journey(name=name, failure=f"ended with {done.returncode}: {last}"[:300])
    return Journey(**json.loads(lines[-1]))


if __name__ == "__main__":
    main(sys.argv[1:])
