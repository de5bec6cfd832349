"""ParityReport: what a runtime makes of a file, against its simulation or a reference runtime, in steps."""

from dataclasses import dataclass

import numpy as np

from fxquant.runtimes import Fallback, FloatOp

_LEVELS = 255  # steps in the range of an output that is not quantized: as many as 8 bits have
_SHOWN = 3  # nodes and ops named in the text


@dataclass(kw_only=True)
class TensorParity:
    """How the codes of one quantized tensor differ between reference and runtime.

    Attributes:
        name: Name of the tensor, in the model and in the file.
        layer: Dotted path of the user's layer that gives it; empty where only the file is known.
        op: The op that gives it; "input" for an input of the model.
        elements: Number of codes compared.
        differing: How many differ when the op is fed the runtime's own inputs.
        max_steps: By how many quantization steps at most, fed so.
        drifted: How many differ end to end, where earlier differences travel on.
        max_drift: By how many steps at most, end to end.
    """

    name: str
    layer: str
    op: str = ""
    elements: int = 0
    differing: int = 0
    max_steps: int = 0
    drifted: int = 0
    max_drift: int = 0

    @property
    def share(self) -> float:
        """Share of codes that differ when the op is fed the runtime's own inputs, 0 to 1."""
        return self.differing / max(self.elements, 1)

    def count(self, codes: np.ndarray, runtime: np.ndarray, *, feeds_runtime: bool) -> None:
        """Count where codes differ from the runtime's.

        Args:
            codes: Codes of the reference.
            runtime: Codes of the runtime, of the same sizes.
            feeds_runtime: Whether the op was fed the runtime's own inputs.
        """
        steps = np.abs(codes.astype(np.int64) - runtime.astype(np.int64))
        differing, largest = int(np.count_nonzero(steps)), int(steps.max(initial=0))
        if feeds_runtime:
            self.elements += steps.size
            self.differing += differing
            self.max_steps = max(self.max_steps, largest)
        else:
            self.drifted += differing
            self.max_drift = max(self.max_drift, largest)


@dataclass(kw_only=True)
class OutputParity:
    """How one output differs between reference and the file as it is deployed.

    Attributes:
        name: Name of the output in the file.
        max_difference: Largest absolute difference, end to end.
        own_difference: Largest absolute difference when its op is fed the runtime's own inputs.
        exposed_difference: Largest absolute difference, in the runtime, between the file as deployed and the
            file that also gives its codes: not 0 where that changes what the runtime fuses.
        range: Largest distance between two of the reference's values, in one batch.
        samples: Number of rows compared.
        nonfinite: Number of entries, of both sides, that are NaN or infinite.
        same_top1: Number of rows whose largest entry is at the same place, over the last axis.
    """

    name: str
    max_difference: float = 0.0
    own_difference: float = 0.0
    exposed_difference: float = 0.0
    range: float = 0.0
    samples: int = 0
    same_top1: int = 0
    nonfinite: int = 0

    @property
    def top1_agreement(self) -> float:
        """Share of rows with the same largest entry, 0 to 1."""
        return self.same_top1 / max(self.samples, 1)

    @property
    def own_steps(self) -> float:
        """Difference when fed the runtime's own inputs, in steps of a 255th of its range."""
        return self.own_difference * _LEVELS / self.range if self.range else 0.0


@dataclass(frozen=True, kw_only=True)
class Departure:
    """An op whose result differs by more than allowed, though it is fed the runtime's own inputs.

    Attributes:
        name: Name of the tensor it gives.
        layer: Dotted path of the user's layer; empty where only the file is known.
        op: The op; "input" for an input of the model, empty for an output that is not quantized.
        steps: By how many steps at most; of an output that is not quantized, in 255ths of its range.
        share: Share of its codes that differ; None of an output that is not quantized.
    """

    name: str
    layer: str
    op: str
    steps: float
    share: float | None

    def __str__(self) -> str:
        where = f" (layer '{self.layer}')" if self.layer else ""
        what = f"{self.op} " if self.op else ""
        share = "" if self.share is None else f", {self.share:.1%} of its codes"
        return f"{what}'{self.name}'{where}: {self.steps:.4g} steps{share}"


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """What ``verify`` found.

    Attributes:
        runtime: Name of the runtime.
        device: What ran the file.
        reference: What it was held against: "simulation" or the name of a runtime.
        tensors: Every quantized activation, in graph order.
        outputs: Every output of the model.
        allowed_steps: By how many steps an op may be off.
        unmatched: Quantized activations of the simulation that the runtime does not give.
        random: Quantized random tensors: both sides draw their own, so the simulation takes the file's.
        fallbacks: Nodes of the file that the runtime did not take.
        float_ops: Ops that the runtime ran in floating point, where it tells.
        skipped: Number of batches of another size than the file's fixed one.
    """

    runtime: str
    tensors: tuple[TensorParity, ...]
    outputs: tuple[OutputParity, ...]
    device: str = ""
    reference: str = "simulation"
    allowed_steps: int = 1
    unmatched: tuple[str, ...] = ()
    random: tuple[str, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    float_ops: tuple[FloatOp, ...] = ()
    skipped: int = 0

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

    @property
    def departures(self) -> tuple[Departure, ...]:
        """Every op that is off by more than allowed when fed the runtime's own inputs, in graph order."""
        tensors = [
            Departure(name=t.name, layer=t.layer, op=t.op, steps=t.max_steps, share=t.share)
            for t in self.tensors
            if t.max_steps > self.allowed_steps
        ]
        outputs = [
            Departure(name=output.name, layer="", op="", steps=output.own_steps, share=None)
            for output in self.outputs
            if output.own_steps > self.allowed_steps
        ]
        return (*tensors, *outputs)

    @property
    def first_departure(self) -> Departure | None:
        """The first of the departures; None where every op is within the allowed steps."""
        return next(iter(self.departures), None)

    @property
    def float_islands(self) -> tuple[FloatOp, ...]:
        """Ops that the runtime ran in floating point though they are quantized in the file."""
        return tuple(op for op in self.float_ops if op.is_quantized)

    @property
    def is_exposure_neutral(self) -> bool:
        """Whether the runtime gives the same outputs when it also gives the codes that are compared here."""
        return all(output.exposed_difference == 0 for output in self.outputs)

    def __str__(self) -> str:
        elements = sum(tensor.elements for tensor in self.tensors)
        differing = sum(tensor.differing for tensor in self.tensors)
        where = f" ({self.device})" if self.device else ""
        against = "" if self.reference == "simulation" else f" against {self.reference}"
        lines = [
            f"{self.runtime}{where}{against}: {len(self.tensors)} quantized tensors, "
            f"{len(self.unmatched)} not in the file",
            f"  op by op, fed the runtime's inputs: {differing} of {elements} codes differ, "
            f"by {self.max_steps} step(s)",
            f"  end to end: by {self.max_drift} step(s)",
        ]
        first = self.first_departure
        lines += [f"  first departure of {len(self.departures)}: {first}"] if first else []
        lines += [f"  random, taken from the file: {', '.join(self.random)}"] if self.random else []
        lines += [f"  {self.skipped} batch(es) not of the file's size"] if self.skipped else []
        lines += _listed("node(s) not taken by the runtime", self.fallbacks)
        lines += _listed("op(s) in float though quantized in the file", self.float_islands)
        others = len(self.float_ops) - len(self.float_islands)
        lines += [f"  {others} op(s) in float as in the file"] if others else []
        lines += [
            f"  exposing the codes changes output '{output.name}' by {output.exposed_difference:.3g}: "
            "what is compared is not fused as it is deployed"
            for output in self.outputs
            if output.exposed_difference
        ]
        lines += [
            f"  output '{output.name}': difference {output.max_difference:.3g}, same top-1 on "
            f"{output.same_top1} of {output.samples}"
            + (f", {output.nonfinite} NaN or Inf" if output.nonfinite else "")
            for output in self.outputs
        ]
        return "\n".join(lines)


def _listed(what: str, found: tuple[Fallback, ...] | tuple[FloatOp, ...]) -> list[str]:
    named = "; ".join(str(item) for item in found[:_SHOWN]) + (" ..." if len(found) > _SHOWN else "")
    return [f"  {len(found)} {what}: {named}"] if found else []
