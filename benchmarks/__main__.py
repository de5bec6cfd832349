"""python -m benchmarks [part ...]: measure the parts (all of them by default), and write docs/benchmarks.md.

Without measuring anything, `--write` writes the document anew from the results that are kept.
`python -m benchmarks accuracy --help`: what is measured for docs/accuracy.md.
"""

import argparse
import sys

from benchmarks.accuracy import command
from benchmarks.document import DOCUMENT, PLOT, document_text
from benchmarks.parts import PARTS
from benchmarks.plots import draw_growth
from benchmarks.result import load_result, save_rows
from benchmarks.timing import table_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=", ".join(part.name for part in PARTS))
    parser.add_argument("--write", action="store_true", help="only write the document")
    given = parser.parse_args()
    unknown = set(given.parts) - {part.name for part in PARTS}
    if unknown:
        parser.error(f"no part is called {', '.join(sorted(unknown))}")
    for part in PARTS:
        if not given.write and (not given.parts or part.name in given.parts):
            rows = part.measure()
            save_rows(part.name, rows)
            print(f"## {part.title}\n\n{table_of(rows)}\n", flush=True)
    growth = load_result("growth")
    if growth is not None:
        draw_growth(growth.rows, PLOT)
    DOCUMENT.write_text(document_text(), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["accuracy"]:
        command.main(sys.argv[2:])
    else:
        main()
