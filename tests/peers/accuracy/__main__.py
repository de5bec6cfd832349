"""Measure a peer's accuracy, into benchmarks/results/accuracy_peers.json: python -m tests.peers.accuracy PEER

PEER is a module of this folder; the one of tests/peers/speed says what to install, in a scratch environment
outside the project. Then `python -m benchmarks accuracy --write` writes docs/accuracy.md.
"""

import argparse
import importlib
import time

import torch

from benchmarks.accuracy.cases import NAMES, load_case
from benchmarks.accuracy.document import PEERS, merged
from benchmarks.accuracy.settings import SETTINGS
from benchmarks.result import load_result, save_rows
from tests.peers.accuracy.job import Peer

_PEERS = ("aimet", "brevitas", "modelopt", "nncf", "torchao")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=_PEERS)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=tuple(SETTINGS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    peer: Peer = importlib.import_module(f"tests.peers.accuracy.{given.peer}_jobs").PEER
    for name in given.models:
        jobs = [job for job in peer.jobs(name) if job.setting in given.settings]
        case = load_case(name) if jobs else None
        for job in jobs:
            assert case is not None
            start = time.process_time()
            try:
                forward = job.quantize(case)
                seconds = time.process_time() - start
                found = str(case.measure(forward))
            except Exception as error:  # whatever the tool raises on a model: the table says that it fails
                print(f"{peer.title} fails on {name}: {type(error).__name__}: {str(error)[:600]}", flush=True)
                seconds, found = time.process_time() - start, f"fails: {type(error).__name__}"
            row = {
                "model": name,
                "setting": job.setting,
                "tool": peer.title,
                "recipe": job.recipe,
                "simulation": found,
                "ONNX Runtime": "-",
                "seconds": f"{seconds:.1f}",
            }
            print(" | ".join(row.values()), flush=True)
            result = load_result(PEERS)
            save_rows(PEERS, merged(result.rows if result else [], [row]))


if __name__ == "__main__":
    main()
