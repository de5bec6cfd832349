"""AlgorithmReport: what an algorithm did at each site, and why it left others alone."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class AlgorithmSite:
    """A place in the model that an algorithm changed or left alone.

    Attributes:
        layer: Dotted path of the user's layer; of several that were changed together, joined by ", ".
        applied: Whether the algorithm changed it.
        reason: What was done, or why it was left as it is.
        before: The error that the algorithm lowers, before it; None where it was not measured.
        after: The same after it.
    """

    layer: str
    applied: bool
    reason: str
    before: float | None = None
    after: float | None = None

    def __str__(self) -> str:
        verb = "applied" if self.applied else "declined"
        measured = self.before is not None and self.after is not None
        change = f" ({self.before:.4g} -> {self.after:.4g})" if measured else ""
        return f"{verb} at '{self.layer}': {self.reason}{change}"


@dataclass(frozen=True, kw_only=True)
class AlgorithmReport:
    """What an algorithm did to a model.

    Attributes:
        algorithm: The algorithm and its options, as text that ``fxquant.algorithms.parse`` reads.
        sites: Every candidate, in graph order.
    """

    algorithm: str
    sites: list[AlgorithmSite] = field(default_factory=list)

    @property
    def applied(self) -> list[AlgorithmSite]:
        """The sites that were changed."""
        return [site for site in self.sites if site.applied]

    @property
    def declined(self) -> list[AlgorithmSite]:
        """The sites that were left alone."""
        return [site for site in self.sites if not site.applied]

    def __str__(self) -> str:
        head = f"{self.algorithm}: {len(self.applied)} applied, {len(self.declined)} declined"
        return "\n".join([head, *map(str, self.sites)])
