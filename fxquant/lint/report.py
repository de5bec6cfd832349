"""LintReport: what the linter found in a file."""

from dataclasses import dataclass
from pathlib import Path

from fxquant.lint.rule import Finding, Severity

_ORDER = (Severity.ERROR, Severity.WARNING, Severity.INFO)
_NOUNS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


@dataclass(frozen=True, kw_only=True)
class LintReport:
    """The broken rules of one target.

    Attributes:
        target: Name of the target.
        findings: Worst first, then in the order of the rules; after a fix, what is left.
        fixed: Rule id -> number of repaired places.
        fixed_file: Where the repaired model was written; None without a fix.
    """

    target: str
    findings: tuple[Finding, ...]
    fixed: dict[str, int]
    fixed_file: Path | None = None

    def __post_init__(self) -> None:
        ordered = sorted(self.findings, key=lambda finding: _ORDER.index(finding.severity))
        object.__setattr__(self, "findings", tuple(ordered))

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """Return the findings of a severity."""
        return tuple(finding for finding in self.findings if finding.severity is severity)

    @property
    def has_errors(self) -> bool:
        """Whether the target refuses the file or computes other numbers."""
        return bool(self.of(Severity.ERROR))

    @property
    def rules(self) -> frozenset[str]:
        """Ids of the rules that are broken."""
        return frozenset(finding.rule for finding in self.findings)

    def to_json(self) -> dict[str, object]:
        """Return the report as plain values."""
        rows = [
            {
                "rule": finding.rule,
                "severity": finding.severity.value,
                "node": finding.node,
                "op": finding.op,
                "tensor": finding.tensor,
                "message": finding.message,
                "remedy": finding.remedy,
                "is_fixable": finding.is_fixable,
            }
            for finding in self.findings
        ]
        where = None if self.fixed_file is None else str(self.fixed_file)
        return {"target": self.target, "findings": rows, "fixed": dict(self.fixed), "fixed_file": where}

    def summary(self) -> str:
        """Return the counts in one line."""
        counts = [(len(self.of(severity)), _NOUNS[severity]) for severity in _ORDER]
        said = ", ".join(f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts)
        repaired = sum(self.fixed.values())
        return f"{self.target}: {said}" + (
            f"; {repaired} fixed in {self.fixed_file}" if self.fixed_file else ""
        )

    def __str__(self) -> str:
        return "\n".join([*map(str, self.findings), self.summary()])
