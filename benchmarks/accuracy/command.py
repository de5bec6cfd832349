"""python -m benchmarks accuracy: measure recipes, keep the results, and write docs/accuracy.md."""

import argparse
from collections.abc import Sequence

from benchmarks.accuracy.cases import NAMES
from benchmarks.accuracy.document import DOCUMENT, OURS, document_text, merged
from benchmarks.accuracy.measure import measure_cases
from benchmarks.accuracy.recipe import PLAIN
from benchmarks.accuracy.settings import SETTINGS
from benchmarks.result import load_result, save_rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks accuracy", description=__doc__)
    parser.add_argument("--models", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=tuple(SETTINGS))
    parser.add_argument("--recipes", nargs="+", default=PLAIN, help='such as "sqnr, weights mse"')
    parser.add_argument("--write", action="store_true", help="only write the document")
    given = parser.parse_args(arguments)
    if not given.write:
        for row in measure_cases(given.models, given.settings, given.recipes):
            print(" | ".join(row.values()), flush=True)
            result = load_result(OURS)
            save_rows(OURS, merged(result.rows if result else [], [row]))
    DOCUMENT.write_text(document_text(), encoding="utf-8")
