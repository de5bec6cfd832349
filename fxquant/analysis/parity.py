"""compare: run an exported file and hold it against the simulation, tensor by tensor, in steps."""

from pathlib import Path

import numpy as np
import torch
from torch import fx

from fxquant.analysis.file_sizes import FileSizes
from fxquant.analysis.output_parity import compare_output, largest_difference
from fxquant.analysis.parity_interpreter import ParityInterpreter
from fxquant.analysis.parity_report import OutputParity, ParityReport, TensorParity
from fxquant.calibration import Signature, calls_of
from fxquant.graph import Example, graphs_of
from fxquant.graph.annotations import TENSOR, layer_of
from fxquant.graph.nested import interpreted
from fxquant.graph.structure import named_tensors, tensors_in
from fxquant.graph.values import op_of
from fxquant.ops import OutputRange
from fxquant.quantization.affine import FrozenQuantizeDequantize
from fxquant.quantization.float import FrozenFloatQuantizeDequantize
from fxquant.runtimes import Arrays, open_file

_FROZEN = (FrozenQuantizeDequantize, FrozenFloatQuantizeDequantize)


def compare(
    gm: fx.GraphModule,
    path: Path,
    batches: object,
    runtime: str = "onnxruntime",
    allowed_steps: int = 1,
    **options: object,
) -> ParityReport:
    """Run a file and the simulation it came from on the same data.

    Outputs are compared as the file gives them. Inner tensors are compared twice: end to end, and with each
    op fed the runtime's own inputs, which tells a wrong op from a rounding that travelled.

    Args:
        gm: The quantized model.
        path: The ONNX file exported from it.
        batches: Data, as for calibration.
        runtime: Name of the runtime.
        allowed_steps: By how many steps an op may be off before it is a departure.
        options: Options of the runtime, such as ``soc="sm8650"`` of "htp".

    Raises:
        BatchError: If there is no batch, or one does not fit.
        OptionError: If there is no such runtime, or it has no such option.
        MissingExtraError: If the runtime is not installed.
        RefusalError: If it refuses the file.
    """
    deployed = open_file(runtime, path, options)
    exposed = open_file(runtime, path, options, exposes_codes=True)
    signature, sizes = Signature(gm), FileSizes(path)
    sites = _sites(gm)
    missing = [node for node, parity in sites.items() if f"{parity.name}_q" not in exposed.outputs]
    unmatched = tuple(sites.pop(node).name for node in missing)
    random = {
        node: sites.pop(node) for graph in graphs_of(gm) for node in _random_sites(graph) if node in sites
    }
    outputs = [OutputParity(name=name) for name in deployed.outputs]
    with torch.no_grad():
        for example in calls_of(batches, signature):
            feeds = _feeds(signature, example)
            if not sizes.fit(feeds):
                continue
            given, codes = deployed.run(feeds), exposed.run(feeds)
            for feeds_runtime in (True, False):
                interpreter = ParityInterpreter(gm, sites, random, codes, feeds_runtime=feeds_runtime)
                args, kwargs = example.copied()  # a forward may write into its inputs
                inputs = signature.bind(Example(args=args, kwargs=kwargs)).values()
                with interpreted(gm, interpreter.below):
                    result = interpreter.run(*inputs, enable_io_processing=False)
                for output, leaf in zip(outputs, tensors_in(result), strict=True):
                    simulated = leaf.detach().cpu().numpy()
                    if not feeds_runtime:
                        compare_output(output, simulated, given[output.name])
                    elif simulated.shape == codes[output.name].shape:
                        own = largest_difference(simulated, codes[output.name])
                        output.own_difference = max(output.own_difference, own)
            compare_exposed(outputs, given, codes)
    sizes.check()
    return ParityReport(
        runtime=deployed.name,
        device=deployed.device,
        tensors=tuple(sites.values()),
        outputs=tuple(outputs),
        allowed_steps=allowed_steps,
        unmatched=unmatched,
        random=tuple(parity.name for parity in random.values()),
        fallbacks=deployed.fallbacks,
        float_ops=deployed.float_ops,
        skipped=sizes.skipped,
    )


def compare_exposed(outputs: list[OutputParity], deployed: Arrays, exposed: Arrays) -> None:
    """Count how outputs change where a runtime also gives codes."""
    for output in outputs:
        difference = largest_difference(deployed[output.name], exposed[output.name])
        output.exposed_difference = max(output.exposed_difference, difference)


def _sites(gm: fx.GraphModule) -> dict[fx.Node, TensorParity]:
    return {
        node: TensorParity(
            name=str(node.meta.get(TENSOR, node.name)), layer=layer_of(node), op=_producer(graph, node)
        )
        for graph in graphs_of(gm)
        for node in graph.graph.find_nodes(op="call_module")
        if isinstance(graph.get_submodule(str(node.target)), _FROZEN)
    }


def _producer(graph: fx.GraphModule, quantizer: fx.Node) -> str:
    node = quantizer.all_input_nodes[0]
    op = op_of(graph, node)
    return op.name if op is not None else "input" if node.op == "placeholder" else str(node.target)


def _random_sites(graph: fx.GraphModule) -> list[fx.Node]:
    """Return the quantizers of tensors that hold random numbers and nothing else."""
    return [node for node in graph.graph.find_nodes(op="call_module") if _holds_random_numbers(graph, node)]


def _holds_random_numbers(graph: fx.GraphModule, quantizer: fx.Node) -> bool:
    node = quantizer.all_input_nodes[0] if quantizer.all_input_nodes else quantizer
    op = op_of(graph, node)
    while op is not None and op.output is OutputRange.LIKE_INPUT and node.all_input_nodes:
        node = node.all_input_nodes[0]
        op = op_of(graph, node)
    return op is not None and op.is_random


def _feeds(signature: Signature, example: Example) -> dict[str, np.ndarray]:
    tensors = named_tensors(signature.bind(example))
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
