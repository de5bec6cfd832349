"""compare: run an exported file and hold it against the simulation, tensor by tensor, in steps."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import fx

from fxquant.calibration import Signature, calls_of
from fxquant.errors import BatchError
from fxquant.graph import Example, graphs_of
from fxquant.graph.annotations import TENSOR, layer_of
from fxquant.graph.nested import interpreted
from fxquant.graph.structure import named_tensors, tensors_in
from fxquant.graph.values import op_of
from fxquant.ops import OutputRange
from fxquant.quantization.affine import FrozenQuantizeDequantize
from fxquant.runtimes import OnnxRuntime


@dataclass(kw_only=True)
class TensorParity:
    """How the codes of one quantized tensor differ between simulation and runtime.

    Attributes:
        name: Name of the tensor, in the model and in the file.
        layer: Dotted path of the user's layer that gives it.
        elements: Number of codes compared.
        differing: How many differ when the op is fed the runtime's own inputs.
        max_steps: By how many quantization steps at most, fed so.
        drifted: How many differ end to end, where earlier differences travel on.
        max_drift: By how many steps at most, end to end.
    """

    name: str
    layer: str
    elements: int = 0
    differing: int = 0
    max_steps: int = 0
    drifted: int = 0
    max_drift: int = 0


@dataclass(kw_only=True)
class OutputParity:
    """How one output differs between simulation and the file as it is deployed.

    Attributes:
        name: Name of the output in the file.
        max_difference: Largest absolute difference.
        samples: Number of rows compared.
        nonfinite: Number of entries, of both sides, that are NaN or infinite.
        same_top1: Number of rows whose largest entry is at the same place, over the last axis.
    """

    name: str
    max_difference: float = 0.0
    samples: int = 0
    same_top1: int = 0
    nonfinite: int = 0

    @property
    def top1_agreement(self) -> float:
        """Share of rows with the same largest entry, 0 to 1."""
        return self.same_top1 / max(self.samples, 1)


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """What ``verify`` found.

    Attributes:
        runtime: Name of the runtime.
        tensors: Every quantized activation, in graph order.
        outputs: Every output of the model.
        unmatched: Quantized activations of the simulation that the file does not have.
        random: Quantized random tensors: both sides draw their own, so the simulation takes the file's.
    """

    runtime: str
    tensors: tuple[TensorParity, ...]
    outputs: tuple[OutputParity, ...]
    unmatched: tuple[str, ...] = ()
    random: tuple[str, ...] = ()

    @property
    def max_steps(self) -> int:
        """Largest difference in steps of any op that is fed the runtime's own inputs."""
        return max((tensor.max_steps for tensor in self.tensors), default=0)

    @property
    def max_drift(self) -> int:
        """Largest difference in steps of any tensor, end to end."""
        return max((tensor.max_drift for tensor in self.tensors), default=0)

    @property
    def top1_agreement(self) -> float:
        """Smallest share of rows with the same largest entry, over all outputs."""
        return min((output.top1_agreement for output in self.outputs), default=1.0)

    def __str__(self) -> str:
        elements = sum(tensor.elements for tensor in self.tensors)
        differing = sum(tensor.differing for tensor in self.tensors)
        lines = [
            f"{self.runtime}: {len(self.tensors)} quantized tensors, {len(self.unmatched)} not in the file",
            f"  op by op, fed the runtime's inputs: {differing} of {elements} codes differ, "
            f"by {self.max_steps} step(s)",
            f"  end to end: by {self.max_drift} step(s)",
        ]
        lines += [f"  random, taken from the file: {', '.join(self.random)}"] if self.random else []
        lines += [
            f"  output '{output.name}': difference {output.max_difference:.3g}, same top-1 on "
            f"{output.same_top1} of {output.samples}"
            + (f", {output.nonfinite} NaN or Inf" if output.nonfinite else "")
            for output in self.outputs
        ]
        return "\n".join(lines)


def compare(gm: fx.GraphModule, path: Path, batches: object) -> ParityReport:
    """Run a file and the simulation it came from on the same data.

    Outputs are compared as the file gives them. Inner tensors are compared twice: end to end, and with each
    op fed the runtime's own inputs, which tells a wrong op from a rounding that travelled.

    Args:
        gm: The quantized model.
        path: The ONNX file exported from it.
        batches: Data, as for calibration.

    Raises:
        BatchError: If there is no batch, or one does not fit.
    """
    deployed, exposed = OnnxRuntime(path), OnnxRuntime(path, exposes_codes=True)
    signature = Signature(gm)
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
            codes = exposed.run(feeds)
            for feeds_runtime in (True, False):
                interpreter = _ParityInterpreter(gm, sites, random, codes, feeds_runtime=feeds_runtime)
                args, kwargs = example.copied()  # a forward may write into its inputs
                given = signature.bind(Example(args=args, kwargs=kwargs)).values()
                with interpreted(gm, interpreter.below):
                    result = interpreter.run(*given, enable_io_processing=False)
            _compare_outputs(outputs, result, deployed.run(feeds))
    if not any(output.samples for output in outputs):
        raise BatchError("The data holds no batch.", remedy="Pass a list or DataLoader that is not used up.")
    return ParityReport(
        runtime=deployed.name,
        tensors=tuple(sites.values()),
        outputs=tuple(outputs),
        unmatched=unmatched,
        random=tuple(parity.name for parity in random.values()),
    )


class _ParityInterpreter(fx.Interpreter):
    """Runs the simulation and compares the codes at each quantizer with the runtime's."""

    def __init__(
        self,
        gm: fx.GraphModule,
        sites: dict[fx.Node, TensorParity],
        random: dict[fx.Node, TensorParity],
        codes: dict[str, np.ndarray],
        *,
        feeds_runtime: bool,
    ) -> None:
        super().__init__(gm)
        self.extra_traceback = False  # fx would write into the messages of errors
        self._sites, self._random = sites, random
        self._codes = codes
        self._feeds_runtime = feeds_runtime

    def below(self, graph: fx.GraphModule) -> "_ParityInterpreter":
        """Return what runs a graph that an opaque layer calls."""
        return _ParityInterpreter(
            graph, self._sites, self._random, self._codes, feeds_runtime=self._feeds_runtime
        )

    def run_node(self, n: fx.Node) -> Any:
        parity = self._sites.get(n) or self._random.get(n)
        if parity is None:
            return super().run_node(n)
        quantizer = self.fetch_attr(str(n.target))
        tensor = self.env[n.all_input_nodes[0]]
        encoding = quantizer.get_encodings()
        runtime = torch.from_numpy(self._codes[f"{parity.name}_q"].astype(np.int64)).to(tensor.device)
        _check_shapes(parity.name, tensor, runtime)
        if n in self._random:
            return encoding.dequantize(runtime).to(tensor.dtype)
        steps = (encoding.quantize(tensor).to(torch.int64) - runtime).abs()
        differing, largest = int((steps > 0).sum()), int(steps.max()) if steps.numel() else 0
        if not self._feeds_runtime:
            parity.drifted += differing
            parity.max_drift = max(parity.max_drift, largest)
            return quantizer(tensor)
        parity.elements += steps.numel()
        parity.differing += differing
        parity.max_steps = max(parity.max_steps, largest)
        return encoding.dequantize(runtime).to(tensor.dtype)


def _check_shapes(name: str, simulated: torch.Tensor, runtime: torch.Tensor) -> None:
    """Check that a tensor has the same sizes in both: they may depend on random numbers."""
    if simulated.shape != runtime.shape:
        raise BatchError(
            f"Tensor '{name}' has the sizes {tuple(simulated.shape)} in the simulation, but "
            f"{tuple(runtime.shape)} in the file: they depend on random numbers or on a threshold.",
            remedy="Compare the parts of the model whose sizes do not depend on data.",
        )


def _sites(gm: fx.GraphModule) -> dict[fx.Node, TensorParity]:
    return {
        node: TensorParity(name=str(node.meta.get(TENSOR, node.name)), layer=layer_of(node))
        for graph in graphs_of(gm)
        for node in graph.graph.find_nodes(op="call_module")
        if isinstance(graph.get_submodule(str(node.target)), FrozenQuantizeDequantize)
    }


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


def _compare_outputs(
    outputs: Iterable[OutputParity], simulated: object, deployed: dict[str, np.ndarray]
) -> None:
    for output, leaf in zip(outputs, tensors_in(simulated), strict=True):
        ours, theirs = leaf.double().cpu(), torch.from_numpy(deployed[output.name]).double()
        _check_shapes(output.name, ours, theirs)
        is_same = (ours == theirs) | (ours.isnan() & theirs.isnan())
        difference = torch.where(is_same, 0.0, (ours - theirs).abs()).nan_to_num(nan=float("inf"))
        largest = float(difference.max()) if difference.numel() else 0.0
        output.max_difference = max(output.max_difference, largest)
        output.nonfinite += int((~ours.isfinite()).sum()) + int((~theirs.isfinite()).sum())
        rows = ours.reshape(-1, ours.shape[-1] if ours.dim() else 1)
        output.samples += rows.shape[0]
        output.same_top1 += int((rows.argmax(-1) == theirs.reshape(rows.shape).argmax(-1)).sum())
