"""Arithmetic: how a runtime's kernels round, as a sparse table over the op table."""

from dataclasses import dataclass, field

from fxquant.arithmetic.call import Formula
from fxquant.ops.rules import by_op


@dataclass(frozen=True, kw_only=True)
class KernelRule:
    """How a runtime computes some ops.

    Attributes:
        ops: Names of rows of the op table.
        why: What it does, in one line.
        formula: Computes a call between quantizers; None where the float simulation gives the same codes.
        is_epilogue: Whether the op vanishes into the quantizer behind it, where that clips the same values.
        gives_real: Whether the kernel can also hand out real values, without a quantizer behind it.
        takes_channels: Whether its second operand may be a constant with a scale per channel.
    """

    ops: tuple[str, ...]
    why: str
    formula: Formula | None = None
    is_epilogue: bool = False
    gives_real: bool = False
    takes_channels: bool = False


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """The arithmetic of a simulation.

    Attributes:
        name: What users write.
        description: One line.
        rules: What differs from the float simulation, op by op.
        bitwidths: Of the activations that its kernels take.
        mixes_types: Whether a kernel's inputs and output may have different integer types.
    """

    name: str
    description: str
    rules: tuple[KernelRule, ...] = ()
    bitwidths: tuple[int, ...] = (8,)
    mixes_types: bool = False
    _by_op: dict[str, KernelRule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_op", by_op(self.rules, f"Arithmetic '{self.name}'"))

    def rule(self, op: str) -> KernelRule | None:
        """Return the rule for an op; None where the table is silent, and the op is simulated in float."""
        return self._by_op.get(op)
