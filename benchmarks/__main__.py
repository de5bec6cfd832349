"""python -m benchmarks: measure, print, and write docs/benchmarks.md."""

from pathlib import Path

from benchmarks.capture import measure_capture
from benchmarks.files import measure_files
from benchmarks.large import measure_large
from benchmarks.quantizers import measure_inference, measure_training
from benchmarks.simulation import measure_simulation
from benchmarks.speed import measure_models
from benchmarks.timing import table_of

HEAD = """# Benchmarks

Written by `make bench`; one thread, process CPU time, every ratio against the float model (or one copy of the
tensor) in the same process, median of the rounds. Below 10 % is a tie. A dash: not installed, or no
such function.
"""


def main() -> None:
    parts = [
        HEAD,
        "## A model, against its float forward\n",
        "8 images of 96 x 96, random weights, target onnxruntime. `calibrate` is for one batch, weights\n"
        "included; `prepare` counts in float forwards of that batch.\n",
        table_of(measure_models()),
        "\n## The simulated forward, against the float forward\n",
        "Batches of 8, images of 224 x 224 or texts of 128 tokens, random weights. `compiled`: by\n"
        "torch.compile, against the compiled float model. `prepare`: in float forwards. `peak memory`:\n"
        "of fresh processes, prepare, calibrate, convert and a simulated forward, against float forwards.\n",
        table_of(measure_simulation()),
        "\n## Capture by recording, against the float forward\n",
        "Batches of 8, images of 224 x 224 or texts of 128 tokens, random weights. Peak memory is that of a\n"
        "fresh process, in that of one which runs the model once.\n",
        table_of(measure_capture()),
        "\n## An exported file, against torch.onnx.export of the float model\n",
        "Target onnxruntime, models and batches as above. `export`: processor time against the float\n"
        "model's with a batch dimension that may vary as ours may; then against one with fixed sizes.\n"
        "`peak memory`: of fresh processes that build the model and write it; ours prepares, calibrates and\n"
        "converts before. `latency`: a batch of one in ONNX Runtime on one thread, in turns.\n",
        table_of(measure_files()),
        "\n## A model that stays in files, calibrated block by block\n",
        "A Llama with random float32 weights in safetensors files, blocks of one layer; each in a fresh\n"
        "process. MiB that a verb takes at its peak beside what was held before. `largest block`: a\n"
        "layer or the embedding. `held then`: what prepare leaves. `integers`: what convert leaves. `time`:\n"
        "of calibrating, against the same model as a whole.\n",
        table_of(measure_large()),
        "\n## A quantizer in inference, in copies of its tensor\n",
        "An activation of 8 x 64 x 112 x 112, a weight of 2048 x 2048, float32.\n",
        table_of(measure_inference()),
        "\n## A quantizer in training, forward and backward, in copies of its tensor\n",
        "torch.fake_quantize has a fixed range; AIMET's is trained.\n",
        table_of(measure_training()),
    ]
    text = "\n".join(parts)
    (Path(__file__).parent.parent / "docs" / "benchmarks.md").write_text(text + "\n", encoding="utf-8")
    print(text)


main()
