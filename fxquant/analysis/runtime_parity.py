"""compare_runtimes: hold a runtime against another on the same file, tensor by tensor, without the model."""

from collections.abc import Iterable
from pathlib import Path

from fxquant.analysis.file_sizes import FileSizes
from fxquant.analysis.output_parity import check_sizes, compare_output, largest_difference
from fxquant.analysis.parity import compare_exposed
from fxquant.analysis.parity_report import OutputParity, ParityReport, TensorParity
from fxquant.runtimes import Arrays, ExactOnnxRuntime, code_sites, open_file


def compare_runtimes(
    path: Path,
    batches: Iterable[Arrays],
    runtime: str = "onnxruntime",
    reference: str = ExactOnnxRuntime.name,
    allowed_steps: int = 1,
    **options: object,
) -> ParityReport:
    """Run a file in two runtimes on the same data.

    End to end, codes and outputs are compared with the reference's. Op by op they are compared with what ONNX
    defines, whatever the reference: ONNX Runtime without graph optimizations, each op fed the runtime's own
    inputs.

    Args:
        path: The ONNX file.
        batches: Arrays by the names of the file's inputs.
        runtime: Name of the runtime.
        reference: Name of the runtime it is held against.
        allowed_steps: By how many steps an op may be off before it is a departure.
        options: Options of the runtime, such as ``soc="sm8650"`` of "htp".

    Raises:
        BatchError: If there is no batch, or one does not fit.
        OptionError: If there is no such runtime, or it has no such option.
        MissingExtraError: If a runtime is not installed.
        RefusalError: If one refuses the file.
    """
    deployed = open_file(runtime, path, options)
    exposed = open_file(runtime, path, options, exposes_codes=True)
    held_against = open_file(reference, path, exposes_codes=True)
    exact = ExactOnnxRuntime(path, exposes_codes=True, takes_codes=True)
    sizes = FileSizes(path)
    sites = {site.codes: TensorParity(name=site.tensor, layer="", op=site.op) for site in code_sites(path)}
    outputs = [OutputParity(name=name) for name in deployed.outputs]
    for feeds in batches:
        if not sizes.fit(feeds):
            continue
        given, codes = deployed.run(feeds), exposed.run(feeds)
        wanted, own = held_against.run(feeds), exact.run(feeds | codes)
        for name, parity in sites.items():
            check_sizes(name, wanted[name], codes[name])
            parity.count(wanted[name], codes[name], feeds_runtime=False)
            parity.count(own[name], codes[name], feeds_runtime=True)
        for output in outputs:
            compare_output(output, wanted[output.name], given[output.name])
            difference = largest_difference(own[output.name], codes[output.name])
            output.own_difference = max(output.own_difference, difference)
        compare_exposed(outputs, given, codes)
    sizes.check()
    return ParityReport(
        runtime=deployed.name,
        device=deployed.device,
        reference=held_against.name,
        tensors=tuple(sites.values()),
        outputs=tuple(outputs),
        allowed_steps=allowed_steps,
        fallbacks=deployed.fallbacks,
        float_ops=deployed.float_ops,
        skipped=sizes.skipped,
    )
