"""Target: what a deployment backend wants, as a sparse table over the op table."""

from dataclasses import dataclass, field
from enum import Enum

from fxquant.errors import OptionError
from fxquant.ops import op_named
from fxquant.quantization import QuantizationSpec


class Placement(Enum):
    """How a target runs an op, which decides where quantizers stand around it."""

    INTEGER = "integer"  # an integer kernel: it reads quantized tensors
    COPY = "copy"  # moves integers unchanged: quantized where its neighbours are
    EPILOGUE = "epilogue"  # fuses into the integer op before it; alone it runs in float
    FLOAT = "float"


class OutputRule(Enum):
    """When the output of an integer op is quantized."""

    ALWAYS = "always"
    NEVER = "never"  # the kernel can hand out float: its consumers decide
    WHEN_NEEDED = "when_needed"  # the kernel hands out integers only: quantized or the op stays float


class BiasHandling(Enum):
    """How a bias is written."""

    FLOAT = "float"
    INT32 = "int32"  # at scale_input * scale_weight


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a target does with some ops.

    Attributes:
        ops: Names of rows of the op table.
        placement: How the target runs them.
        why: The reason, in one line; it is shown to users of ops that stay float.
        output: When the output of an INTEGER op is quantized.
        is_residual: Whether the op fuses into a weighted op that feeds it, which then stays unquantized.
        fuses_residual: Whether a residual add fuses into these ops.
        shares_range: Whether inputs and output share one encoding.
        weight: Spec of the weight where it differs from the target's; its channel axis is taken as it is.
        allows_constants: Whether an operand may be a constant tensor; if not, the op then stays float.
        is_float_at_graph_output: Whether the output stays float where it is the model's output.
    """

    ops: tuple[str, ...]
    placement: Placement
    why: str
    output: OutputRule = OutputRule.NEVER
    is_residual: bool = False
    fuses_residual: bool = False
    shares_range: bool = False
    weight: QuantizationSpec | None = None
    allows_constants: bool = True
    is_float_at_graph_output: bool = False


@dataclass(frozen=True, kw_only=True)
class Target:
    """A deployment backend.

    Attributes:
        name: What users write.
        description: One line.
        activation: Spec of activations.
        weight: Spec of weights; a per-channel weight takes its channel axis from the op table.
        bias: How biases are written.
        rules: What differs from float, op by op.
        passes: Names of passes, beyond the common ones, that place quantizers for this target.
    """

    name: str
    description: str
    activation: QuantizationSpec
    weight: QuantizationSpec
    bias: BiasHandling
    rules: tuple[Rule, ...]
    passes: tuple[str, ...] = ()
    _by_op: dict[str, Rule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_op: dict[str, Rule] = {}
        for rule in self.rules:
            for name in rule.ops:
                if op_named(name).name in by_op:
                    raise OptionError(f"Target '{self.name}' has two rules for op '{name}'.")
                by_op[name] = rule
        object.__setattr__(self, "_by_op", by_op)

    def rule(self, op: str) -> Rule:
        """Return the rule for an op; one that keeps it float where the table is silent."""
        return self._by_op.get(op) or Rule(
            ops=(op,), placement=Placement.FLOAT, why=f"{self.name} has no integer kernel for {op}"
        )
