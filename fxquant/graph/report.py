"""Report: what each pass did at each site, and why it left others alone."""

from collections import Counter
from dataclasses import dataclass, field

from fxquant.graph.capture_notes import CaptureNotes
from fxquant.graph.coverage import Coverage


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
    """What was done to a model, and what was not.

    Attributes:
        sites: The sites of all passes that ran, in order.
        capture: How the graph came to be: guards, and layers that stay whole; None before capture.
        coverage: How much runs quantized; None before the quantizers are placed.
    """

    sites: list[Site] = field(default_factory=list)
    capture: CaptureNotes | None = None
    coverage: Coverage | None = None

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

    @property
    def left_float(self) -> dict[str, float]:
        """Why multiply-accumulates run in float, with their share of all, 0 to 1; largest first."""
        if self.coverage is None:
            return {}
        counts: Counter[str] = Counter()
        floats, whole = self.floats, {layer.layer for layer in self.capture.opaque} if self.capture else set()
        for name, macs in self.coverage.float_macs.items():
            site = floats.get(name)
            reason = f"{site.op}: {site.reason}" if site else "a tensor that it reads stays float"
            counts[f"'{name or 'the model'}' stays whole" if name in whole else reason] += macs
        return {reason: macs / self.coverage.macs for reason, macs in counts.most_common()}

    def __str__(self) -> str:
        lines = [str(self.coverage)] if self.coverage else []
        lines += [f"float, {share:.1%} of MACs, {reason}" for reason, share in self.left_float.items()]
        if self.capture is not None:
            if self.capture.failure:
                lines.append(f"differs from the model: {self.capture.failure}")
            if self.capture.uses_autocast:
                lines.append("automatic casts (torch.autocast) are left out: the graph computes in float32")
            lines += [f"whole and float: {layer}" for layer in self.capture.opaque]
            lines += [f"holds while {guard}" for guard in self.capture.guards]
        reasons = Counter(f"{site.op}: {site.reason}" for site in self.floats.values())
        lines += [f"float, {count} x {reason}" for reason, count in reasons.most_common()]
        kept = Counter(site.reason for site in self.applied(_GIVEN))
        lines += [f"the model's own quantizers, {count} x {reason}" for reason, count in kept.most_common()]
        lost = Counter(f"not kept, {site.reason}" for site in self.declined(_GIVEN))
        lines += [f"the model's own quantizers, {count} x {reason}" for reason, count in lost.most_common()]
        in_float = Counter(f"{site.op}: {site.reason}" for site in self.declined(_ARITHMETIC))
        lines += [f"simulated in float, {count} x {reason}" for reason, count in in_float.most_common()]
        return "\n".join(lines)


_ARITHMETIC = "swap-arithmetic"
_GIVEN = "assign-given-ranges"
_PLACING = (
    *("calibrate", "assign-specs", "assign-small-layers", "legalize-inputs"),
    *("assign-residual-branches", "legalize-outputs"),
)
