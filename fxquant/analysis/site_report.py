"""Analysis: what the quantized tensors of a model hold and what their grids make of it, as data and text."""

import json
import math
from dataclasses import asdict, dataclass, field

from fxquant.analysis.sensitivity_report import finite
from fxquant.calibration import Statistics
from fxquant.errors import unknown_option

_SHOWN = 20  # rows of the text


@dataclass(frozen=True, kw_only=True)
class OutlierChannel:
    """A channel whose largest magnitude is far above that of the others.

    Attributes:
        index: Its number along the axis of channels.
        magnitude: The largest absolute value.
        ratio: How many times the median of all channels' largest magnitudes it is.
    """

    index: int
    magnitude: float
    ratio: float


@dataclass(frozen=True, kw_only=True)
class SiteAnalysis:
    """A quantized tensor or parameter.

    Attributes:
        name: Its name, as files have it.
        layer: Dotted path of the user's layer; empty for the model's own forward.
        kind: "activation" or "weight".
        minimum: Smallest value seen; of a masked tensor, of those that no mask hides.
        maximum: Largest value seen.
        elements: Number of values seen.
        mse: Mean squared error that its quantizer alone makes on float data; None without a range.
        sqnr: Signal to noise of that, in dB; infinite without noise, None without a range.
        channels: The smallest and the largest value of each channel; empty where they are not known.
        outliers: Outlier channels, the farthest first.
        is_masked: Whether masks hid values.
        like: The tensor whose values this one holds in another shape or order; None for values of its own.
    """

    name: str
    layer: str
    kind: str
    minimum: float
    maximum: float
    elements: int
    mse: float | None
    sqnr: float | None
    channels: tuple[tuple[float, float], ...] = field(default=(), repr=False)
    outliers: tuple[OutlierChannel, ...] = ()
    is_masked: bool = False
    like: str | None = None

    def __str__(self) -> str:
        noise = "  no range  " if self.sqnr is None else f"{self.sqnr:9.2f} dB"
        farthest = f"  {len(self.outliers)} outlier channel(s)" if self.outliers else ""
        farthest += f", up to {self.outliers[0].ratio:.3g} times the median" if self.outliers else ""
        where = self.layer or "the model's own forward"
        return (
            f"{noise}  [{self.minimum:10.4g}, {self.maximum:10.4g}]  {self.kind} '{self.name}' of {where}"
            f"{farthest}"
        )


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """How often values were seen.

    Attributes:
        edges: Ends of the bins, one more than counts.
        counts: Number of values in each.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What ``analyze`` found.

    Attributes:
        sites: Every quantized tensor in graph order, then every quantized parameter of a layer.
        statistics: What was seen of the tensors: serves ``apply_statistics`` with any method.
        outlier_factor: From how many times the median on a channel is an outlier.
    """

    sites: tuple[SiteAnalysis, ...]
    statistics: Statistics
    outlier_factor: float

    def ranked(self) -> tuple[SiteAnalysis, ...]:
        """Return the sites, the worst SQNR first; equal ones in graph order, those without a range last."""
        return tuple(sorted(self.sites, key=lambda site: math.inf if site.sqnr is None else site.sqnr))

    def by_layer(self) -> dict[str, tuple[SiteAnalysis, ...]]:
        """Return the sites of each of the user's layers, in graph order."""
        layers: dict[str, list[SiteAnalysis]] = {}
        for site in self.sites:
            layers.setdefault(site.layer, []).append(site)
        return {layer: tuple(sites) for layer, sites in layers.items()}

    def outliers(self) -> tuple[SiteAnalysis, ...]:
        """Return the sites with outlier channels, the farthest first."""
        found = [site for site in self.sites if site.outliers]
        return tuple(sorted(found, key=lambda site: -site.outliers[0].ratio))

    def histogram(self, name: str) -> Histogram | None:
        """Return the histogram of an activation; None where nothing was seen, or its channels have their own.

        Raises:
            OptionError: If there is no such activation.
        """
        if name not in self.statistics:
            raise unknown_option("quantized activation", name, self.statistics)
        found = self.statistics[name].histogram()
        if found is None or len(found) != 1:
            return None
        counts, edges = found.bins[0].tolist(), found.bin_edges[0].tolist()
        used = [index for index, count in enumerate(counts) if count]
        first, last = (used[0], used[-1]) if used else (0, -1)
        return Histogram(
            edges=tuple(edges[first : last + 2]), counts=tuple(int(n) for n in counts[first : last + 1])
        )

    def to_json(self) -> str:
        """Return the sites as JSON; infinite numbers are null."""
        values = {"outlier_factor": self.outlier_factor, "sites": [asdict(site) for site in self.sites]}
        return json.dumps(finite(values), indent=1)

    def __str__(self) -> str:
        ranked = self.ranked()
        lines = [
            f"{len(self.sites)} quantized tensors and parameters, worst SQNR first",
            *(f"  {site}" for site in ranked[:_SHOWN]),
        ]
        return "\n".join(lines + ([f"  and {len(ranked) - _SHOWN} more"] if len(ranked) > _SHOWN else []))
