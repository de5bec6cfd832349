"""The parts of the benchmarks: what each is called, says and measures."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.calibration import measure_calibration
from benchmarks.calibrators import measure_calibrators
from benchmarks.capture import measure_capture
from benchmarks.files import measure_files
from benchmarks.growth import measure_growth
from benchmarks.large import measure_large
from benchmarks.memory import measure_memory
from benchmarks.quantizers import measure_inference, measure_training
from benchmarks.simulation import measure_simulation
from benchmarks.speed import measure_models
from benchmarks.timing import Row


@dataclass(frozen=True, kw_only=True)
class Part:
    """One table of docs/benchmarks.md.

    Attributes:
        name: What the command line calls it; its results are results/<name>.json.
        title: Its heading.
        text: What its columns mean, a paragraph.
        measure: Returns its rows.
    """

    name: str
    title: str
    text: str
    measure: Callable[[], list[Row]]


PARTS = (
    Part(
        name="calibration",
        title="Calibration, in float forwards of the same batches",
        text="Batches of 8 images of 224 x 224, or of 8 texts padded to 128 tokens; random weights but for "
        "MiniLM where it does not say so; target onnxruntime. The whole of `fxquant.calibrate`, "
        "weights and the final analysis included; the float forward of each batch runs right before "
        "the batch is calibrated on. `spread`: the widest difference between two rounds of a method, "
        "as a part of its median.",
        measure=measure_calibration,
    ),
    Part(
        name="memory",
        title="Peak memory of the whole job, against the float forwards",
        text="Of fresh processes (the median of three), on 4 batches as above: one runs the float model on "
        "them; the other prepares, calibrates by the method, converts and runs the quantized model once.",
        measure=measure_memory,
    ),
    Part(
        name="growth",
        title="How the cost of calibration grows",
        text="Seconds, of `prepare` and of `calibrate` by method. `batches`: of 4 images of 16 x 16 "
        "through 8 convolutions of 16 channels. `layers`: linear ones, 16 x 16, 4 batches of 8 rows. "
        "`channels`: of 4 depthwise convolutions, 4 batches of 4 images of 16 x 16. `exponent`: the "
        "slope through the logarithms of the larger sizes; 1 is linear.",
        measure=measure_growth,
    ),
    Part(
        name="simulation",
        title="The simulated forward, against the float forward",
        text="Batches of 8, images of 224 x 224 or texts of 128 tokens, random weights. `compiled`: by "
        "torch.compile, against the compiled float model. `prepare`: in float forwards. `peak memory`: "
        "of fresh processes, prepare, calibrate, convert and a simulated forward, against float forwards.",
        measure=measure_simulation,
    ),
    Part(
        name="large",
        title="A model that stays in files, calibrated block by block",
        text="A Llama with random float32 weights in safetensors files, blocks of one layer; each in a "
        "fresh process. MiB that a verb takes at its peak beside what was held before. `largest block`: a "
        "layer or the embedding. `held then`: what prepare leaves. `integers`: what convert leaves. "
        "`time`: of calibrating, against the same model as a whole.",
        measure=measure_large,
    ),
    Part(
        name="models",
        title="A small model, against its float forward",
        text="8 images of 96 x 96, random weights, target onnxruntime. `calibrate` is for one batch, "
        "weights included; `prepare` counts in float forwards of that batch.",
        measure=measure_models,
    ),
    Part(
        name="capture",
        title="Capture by recording, against the float forward",
        text="Batches of 8, images of 224 x 224 or texts of 128 tokens, random weights. Peak memory is "
        "that of a fresh process, in that of one which runs the model once.",
        measure=measure_capture,
    ),
    Part(
        name="files",
        title="An exported file, against torch.onnx.export of the float model",
        text="Target onnxruntime, models and batches as above. `export`: processor time against the float "
        "model's with a batch dimension that may vary as ours may; then against one with fixed sizes. "
        "`peak memory`: of fresh processes that build the model and write it; ours prepares, "
        "calibrates and converts before. `latency`: a batch of one in ONNX Runtime on one thread, in "
        "turns.",
        measure=measure_files,
    ),
    Part(
        name="calibrators",
        title="The search for amax of pytorch-quantization's calibrators",
        text="A histogram of 2048 bins, 8 bits, one thread. `definition`: the loops over bins that NVIDIA's "
        "calibrators are defined by, as numpy, scipy and torch run them. `tensor`: `compute_amax`, with the "
        "identical result; `ratio`: how many times as fast. `512 channels`: of one calibrator, together.",
        measure=measure_calibrators,
    ),
    Part(
        name="inference",
        title="A quantizer in inference, in copies of its tensor",
        text="An activation of 8 x 64 x 112 x 112, a weight of 2048 x 2048, float32.",
        measure=measure_inference,
    ),
    Part(
        name="training",
        title="A quantizer in training, forward and backward, in copies of its tensor",
        text="torch.fake_quantize has a fixed range; AIMET's is trained.",
        measure=measure_training,
    ),
)
