"""Assignment: which tensors around one op are to be quantized, and how; noted on the node."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import fx

from fxquant.graph.values import op_of
from fxquant.quantization import QuantizationSpec
from fxquant.targets import Placement, Rule, Target

_ASSIGNMENT = "assignment"


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """The decision for one call.

    Attributes:
        rule: The target's rule that it follows.
        inputs: Spec of each operand to be read quantized, by the name of the node that gives it.
        weight: Spec of the weight that a module call holds; None when there is none to quantize.
        output: Spec of the output; None when the consumers decide.
    """

    rule: Rule
    inputs: Mapping[str, QuantizationSpec] = field(default_factory=dict)
    weight: QuantizationSpec | None = None
    output: QuantizationSpec | None = None

    @property
    def is_quantized(self) -> bool:
        """Whether any tensor around the op is quantized."""
        return bool(self.inputs) or self.output is not None or self.weight is not None

    def __str__(self) -> str:
        parts = [f"{name}: {spec}" for name, spec in self.inputs.items()]
        parts += [f"weight: {self.weight}"] if self.weight else []
        parts += [f"-> {self.output}"] if self.output else []
        return ", ".join(parts) or self.rule.placement.value


def assignment_of(node: fx.Node) -> Assignment | None:
    """Return the assignment of a node; None for one that stays float."""
    assignment = node.meta.get(_ASSIGNMENT)
    return assignment if isinstance(assignment, Assignment) else None


def assign(node: fx.Node, assignment: Assignment | None) -> None:
    """Note an assignment on a node; None takes it back."""
    node.meta.pop(_ASSIGNMENT, None)
    if assignment is not None:
        node.meta[_ASSIGNMENT] = assignment


def placement_of(node: fx.Node) -> Placement:
    """Return how the target runs a node; FLOAT for one without an assignment."""
    assignment = assignment_of(node)
    return Placement.FLOAT if assignment is None else assignment.rule.placement


def activation_spec(gm: fx.GraphModule, node: fx.Node, target: Target) -> QuantizationSpec | None:
    """Return the target's activation spec for what a node gives, with the range its op fixes, if any.

    None where the target leaves activations float.
    """
    if target.activation is None:
        return None
    op = op_of(gm, node)
    return replace(target.activation, fixed_range=None if op is None else op.fixed_range)
