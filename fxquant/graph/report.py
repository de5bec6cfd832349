"""Report: what each pass did at each site, and why it left others alone."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place in the graph that a pass touched or declined.

    Attributes:
        rewrite: Name of the pass.
        node: Name of the graph node.
        layer: Dotted path of the user's layer; empty for the model's own forward.
        op: Name of the op; what the code calls when the op table has no row for it.
        applied: Whether the pass changed the site.
        reason: Why it was left as it is, or what was done.
    """

    rewrite: str
    node: str
    layer: str
    op: str
    applied: bool
    reason: str

    def __str__(self) -> str:
        verb = "applied" if self.applied else "declined"
        return f"{self.rewrite}: {verb} {self.op} at '{self.layer or self.node}': {self.reason}"


@dataclass
class Report:
    """The sites of all passes that ran, in order."""

    sites: list[Site] = field(default_factory=list)

    def applied(self, rewrite: str) -> list[Site]:
        """Return the sites that a pass changed."""
        return [site for site in self.sites if site.rewrite == rewrite and site.applied]

    def declined(self, rewrite: str) -> list[Site]:
        """Return the sites that a pass left alone."""
        return [site for site in self.sites if site.rewrite == rewrite and not site.applied]

    @property
    def floats(self) -> dict[str, Site]:
        """The ops that stay float, by node name, each with the site that says why."""
        decisions = [site for site in self.sites if site.rewrite in _PLACING]
        last = {site.node: site for site in decisions}
        return {name: site for name, site in last.items() if not site.applied}


_PLACING = ("assign-specs", "assign-residual-branches", "legalize-outputs")
