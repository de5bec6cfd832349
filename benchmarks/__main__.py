"""python -m benchmarks: measure, print, and write docs/benchmarks.md."""

from pathlib import Path

from benchmarks.speed import measure_models, measure_quantizer, table_of

HEAD = """# Benchmarks

Written by `make bench`; one thread, process CPU time, every ratio against the float model (or one copy of the
tensor) in the same process, median of the rounds. Below 10 % is a tie.
"""


def main() -> None:
    parts = [
        HEAD,
        "## A model, against its float forward\n",
        "8 images of 96 x 96, random weights, target onnxruntime. `calibrate` is for one batch, weights\n"
        "included; `prepare` counts in float forwards of that batch.\n",
        table_of(measure_models()),
        "\n## A quantizer in inference, in copies of an 8 x 64 x 112 x 112 float32 tensor\n",
        table_of(measure_quantizer()),
    ]
    text = "\n".join(parts)
    (Path(__file__).parent.parent / "docs" / "benchmarks.md").write_text(text, encoding="utf-8")
    print(text)


main()
