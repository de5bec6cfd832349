"""Measure a peer, and keep it in benchmarks/results/peers.json: python -m tests.peers.speed PEER

PEER is a module of this folder. Each says what to install, in a scratch environment outside the project. Then
`python -m benchmarks --write` writes docs/benchmarks.md.
"""

import argparse
import copy
import importlib
from collections.abc import Collection, Iterator

import torch

from benchmarks.models import MODELS, batches_of, load
from benchmarks.pairing import paired_ratio
from benchmarks.peers import MEASURES
from benchmarks.result import load_result, save_rows
from benchmarks.timing import Row
from tests.peers.speed.job import Peer

PEERS = ("aimet", "brevitas", "modelopt", "nncf", "onnxruntime", "torchao")
_FORWARD_ROUNDS = 5  # a forward is short


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=tuple(MEASURES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    peer: Peer = importlib.import_module(f"tests.peers.speed.{given.peer}_jobs").PEER
    for name in given.models:
        for row in measure(peer, name, given.batches, given.measures):
            print(name, row, flush=True)
            _keep(row)


def measure(peer: Peer, name: str, num_batches: int, measures: Collection[str] = MEASURES) -> Iterator[Row]:
    """Yield the row of each job of some measures that runs on a model."""
    model, batches = load(name), list(batches_of(name, num_batches))
    with torch.no_grad():
        forward = peer.float_forward(model, batches[0])
        jobs = peer.jobs(copy.deepcopy(model), batches[0])
        while True:
            try:
                job = next(jobs)
                if job.measure not in measures:
                    continue
                rounds = _FORWARD_ROUNDS if job.measure == "forward" else 1
                ratio = paired_ratio(job.run, forward, batches, rounds)
            except StopIteration:
                return
            except Exception as error:  # whatever the tool raises on a model: a dash in the table
                print(f"{peer.title} fails on {name}: {type(error).__name__}: {str(error)[:300]}", flush=True)
                continue
            note = f"{job.note}, {num_batches} batches"
            yield {
                "peer": peer.title,
                "measure": job.measure,
                "note": note,
                name: f"{ratio.median:.2f}",
            }


def _keep(row: Row) -> None:
    """Put a figure beside those of other models, where they were measured in the same way."""
    result = load_result("peers")
    rows = {(one["peer"], one["measure"]): one for one in (result.rows if result else [])}
    key = row["peer"], row["measure"]
    others = rows.get(key, row)
    rows[key] = others | row if others["note"] == row["note"] else row
    save_rows("peers", [rows[key] for key in sorted(rows, key=lambda key: (key[0].lower(), key[1]))])


if __name__ == "__main__":
    main()
