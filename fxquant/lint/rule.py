"""Rule: one thing that a target wants of a file, with its check and, where it is exact, its fix."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

import onnx_ir as ir

from fxquant.lint.graph import Graph, stored_weight


class Severity(Enum):
    """How bad a finding is."""

    ERROR = "E"  # refused, or wrong numbers
    WARNING = "W"  # runs slower, or in float
    INFO = "I"  # advice


@dataclass(frozen=True, kw_only=True)
class Match:
    """A place where a rule is broken.

    Attributes:
        node: The node there; None where the whole file is meant.
        tensor: The tensor it is about; None for a layer's weight, else the node's first output.
        message: What is so, in one sentence.
        remedy: What to do about it.
        severity: Where it differs from the rule's.
        is_fixable: Whether the rule's fix takes care of this one.
    """

    node: ir.Node | None
    message: str
    remedy: str = ""
    tensor: ir.Value | None = None
    severity: Severity | None = None
    is_fixable: bool = False


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A broken rule, in plain values.

    Attributes:
        rule: Id of the rule.
        severity: How bad it is.
        node: Name of the node; where it has none, of its first output. Empty for the whole file.
        op: ONNX operator of the node.
        tensor: Name of the tensor.
        message: What is so.
        remedy: What to do about it.
        is_fixable: Whether ``lint(..., fix=path)`` does it, without changing what the file computes.
    """

    rule: str
    severity: Severity
    node: str
    op: str
    tensor: str
    message: str
    remedy: str
    is_fixable: bool

    def __str__(self) -> str:
        tensor = f" ({self.tensor})" if self.tensor not in ("", self.node) else ""
        where = f" {self.op} '{self.node}'{tensor}" if self.node else ""
        return f"{self.severity.value} {self.rule}{where}: {self.message} {self.remedy}".rstrip()


Check = Callable[[Graph], Iterable[Match]]
Fix = Callable[[Graph], int]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of a target.

    Attributes:
        id: As users write it to ignore the rule.
        severity: How bad a finding is, at most.
        statement: What the target wants, in one line.
        why: What happens otherwise.
        check: Gives the places where it is broken; None for advice that a file does not tell.
        fix: Repairs every fixable place, and returns how many; the file computes the same afterwards. None
            where nothing exact is possible.
        no_fix: Why there is no fix, where one would be expected.
    """

    id: str
    severity: Severity
    statement: str
    why: str
    check: Check | None = None
    fix: Fix | None = None
    no_fix: str = ""

    def findings(self, graph: Graph) -> list[Finding]:
        """Return every place of a graph where the rule is broken."""
        matches = () if self.check is None else self.check(graph)
        return [self._finding(graph, match) for match in matches]

    def _finding(self, graph: Graph, match: Match) -> Finding:
        node = match.node
        tensor = match.tensor or stored_weight(graph, node)
        if tensor is None and node is not None and node.outputs:
            tensor = node.outputs[0]
        output = (node.outputs[0].name if node is not None and node.outputs else "") or ""
        return Finding(
            rule=self.id,
            severity=match.severity or self.severity,
            node="" if node is None else node.name or output,
            op="" if node is None else node.op_type,
            tensor="" if tensor is None else tensor.name or "",
            message=match.message,
            remedy=match.remedy,
            is_fixable=match.is_fixable and self.fix is not None,
        )
