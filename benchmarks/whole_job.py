"""python -m benchmarks.whole_job MODEL METHOD: prepare, calibrate, convert, one forward.

Prints the peak memory in KiB. The batches are those of benchmarks.float_job, made one by one as a DataLoader
would.
"""

import argparse

import torch

import fxquant
from benchmarks.float_job import BATCHES
from benchmarks.models import batches_of, load, run
from benchmarks.timing import peak_memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("method")
    given = parser.parse_args()
    torch.set_num_threads(1)
    model, example = load(given.name), next(batches_of(given.name, 1))
    prepared = fxquant.prepare(model, example, target="onnxruntime")
    fxquant.calibrate(prepared, batches_of(given.name, BATCHES), method=given.method)
    with torch.no_grad():
        run(fxquant.convert(prepared), example)
    print(peak_memory())


if __name__ == "__main__":
    main()
