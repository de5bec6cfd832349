"""python -m benchmarks.float_job MODEL: run the float model on some batches, print the peak memory in KiB."""

import argparse

import torch

from benchmarks.models import batches_of, load, run
from benchmarks.timing import peak_memory

BATCHES = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    name = parser.parse_args().name
    torch.set_num_threads(1)
    model = load(name)
    with torch.no_grad():
        for batch in batches_of(name, BATCHES):
            run(model, batch)
    print(peak_memory())


if __name__ == "__main__":
    main()
