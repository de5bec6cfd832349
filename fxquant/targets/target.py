"""Target: what a deployment backend wants, as a sparse table over the op table."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from fxquant.errors import unknown_option
from fxquant.ops.rules import by_op
from fxquant.quantization import QuantizationSpec
from fxquant.targets.layer_sizes import SizeLimit


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
        operands: Specs of operands that the kernel takes in another type than the target's, by their name in
            the op table. Where they are quantized already they are converted to another type, and have their
            own grid made symmetric where that is all that differs.
        limit: Says which layers are too small for the integer kernel; None where all of them gain from it.
        follows_layer: Whether the op is quantized only behind a layer that fuses residual adds.
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
    operands: Mapping[str, QuantizationSpec] = field(default_factory=dict)
    limit: SizeLimit | None = None
    follows_layer: bool = False


@dataclass(frozen=True, kw_only=True)
class FileForm:
    """What the ONNX file of a target is like.

    Attributes:
        opset: The lowest opset that it is written in.
        is_static: Whether every dimension is fixed; if not, the first one of the inputs may vary.
        has_gemm: Whether linear layers are written as Gemm, which integer kernels with int32 biases fuse.
        gathers_codes: Whether a lookup in a stored table picks codes and dequantizes them; if not, it picks
            from the dequantized table.
    """

    opset: int = 18
    is_static: bool = False
    has_gemm: bool = False
    gathers_codes: bool = False


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """One choice of types that a target runs; its name is written behind the target's: "qualcomm:w8a16".

    Attributes:
        activation: Spec of activations; None where they stay float.
        weight: Spec of weights.
        why: What it is for.
        operands: Specs that the operands of some ops have instead, by op and operand.
        rules: What takes the place of the target's rules for some ops.
        floats: Ops that have no kernel of these types, with the reason.
    """

    activation: QuantizationSpec | None
    weight: QuantizationSpec
    why: str
    operands: Mapping[str, Mapping[str, QuantizationSpec]] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    floats: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A deployment backend.

    Attributes:
        name: What users write.
        description: One line.
        activation: Spec of activations; None where they stay float and only weights are quantized.
        weight: Spec of weights; a per-channel weight takes its channel axis from the op table.
        bias: How biases are written.
        rules: What differs from float, op by op.
        passes: Names of passes, beyond the common ones, that place quantizers for this target.
        rewrites: Names of passes that write ops in the forms that this target runs.
        layer_rewrites: Names of such passes for layers, once batch norms are folded into them.
        file: What its ONNX file is like.
        bounds_masks: Whether tensors in which a mask puts -inf, or the lowest number, are quantized: their
            range ends where a softmax gives 0. If not, they stay float.
        schemes: Other types that it runs, by name.
    """

    name: str
    description: str
    activation: QuantizationSpec | None
    weight: QuantizationSpec
    bias: BiasHandling
    rules: tuple[Rule, ...]
    passes: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()
    layer_rewrites: tuple[str, ...] = ()
    file: FileForm = FileForm()
    bounds_masks: bool = False
    schemes: Mapping[str, Scheme] = field(default_factory=dict)
    _by_op: dict[str, Rule] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_op", by_op(self.rules, f"Target '{self.name}'"))

    def with_scheme(self, name: str) -> "Target":
        """Return the target with the types of one of its schemes.

        Raises:
            OptionError: If it has no such scheme.
        """
        if name not in self.schemes:
            raise unknown_option(f"scheme of target '{self.name}'", name, self.schemes)
        scheme = self.schemes[name]
        replaced = {op for rule in scheme.rules for op in rule.ops}
        kept = [replace(rule, ops=tuple(op for op in rule.ops if op not in replaced)) for rule in self.rules]
        rules = [_of_scheme(rule, scheme) for rule in (*kept, *scheme.rules)]
        floats = [Rule(ops=(op,), placement=Placement.FLOAT, why=why) for op, why in scheme.floats.items()]
        return replace(
            self,
            name=f"{self.name}:{name}",
            activation=scheme.activation,
            weight=scheme.weight,
            rules=(*rules, *floats),
        )

    def rule(self, op: str) -> Rule:
        """Return the rule for an op; one that keeps it float where the table is silent."""
        return self._by_op.get(op) or Rule(
            ops=(op,), placement=Placement.FLOAT, why=f"{self.name} has no integer kernel for {op}"
        )


def _of_scheme(rule: Rule, scheme: Scheme) -> Rule:
    """Return a rule without the ops that a scheme leaves float, with its specs, and a weight of its type."""
    ops = tuple(op for op in rule.ops if op not in scheme.floats)
    operands = {name: spec for op in ops for name, spec in scheme.operands.get(op, {}).items()}
    is_float8 = rule.weight is not None and scheme.weight.float_type is not None
    weight = (
        replace(scheme.weight, channel_axis=rule.weight.channel_axis)
        if is_float8 and rule.weight
        else rule.weight
    )
    return replace(rule, ops=ops, operands=operands or rule.operands, weight=weight)
