"""analyze_graph: ranges, histograms, noise and outlier channels of every site, from one pass over data."""

import math
from collections.abc import Iterable

import torch
from torch import fx

from fxquant.analysis.output_error import decibels
from fxquant.analysis.site_noise import Noise, noise_of_histogram, noise_of_tensor
from fxquant.analysis.site_report import Analysis, OutlierChannel, SiteAnalysis
from fxquant.calibration import Kind, Offload, Statistics, TensorStatistics, collect_graph, whole
from fxquant.calibration.sites import ActivationSite, WeightSite, activation_sites, weight_sites
from fxquant.calibration.weights import check_weights
from fxquant.errors import OptionError
from fxquant.graph import Stage, get_record
from fxquant.graph.values import attribute
from fxquant.quantization import QuantizerBase
from fxquant.quantization.encoding_analyzer import ExactHistograms
from fxquant.storage import releasing

_KINDS = {Kind.HISTOGRAM, Kind.CHANNELS, Kind.AVERAGE}


def analyze_graph(
    gm: fx.GraphModule, batches: object, *, outlier_factor: float, progress: bool, offload: Offload | None
) -> Analysis:
    """Run batches through a prepared model in float, once; see ``fxquant.analyze``.

    Raises:
        ModelTypeError: If gm is not a prepared model.
        OptionError: If the factor is not above 1.
        BatchError, NonFiniteError: As ``collect_graph``.
    """
    get_record(gm, Stage.PREPARED)
    if not outlier_factor > 1:
        raise OptionError(f"An outlier factor of {outlier_factor}.", remedy="Pass a number above 1.")
    with whole(gm):
        statistics = collect_graph(gm, batches, _KINDS, progress=progress, offload=offload)
        with releasing(gm):
            check_weights(gm)
            activations = _distinct(activation_sites(gm))
            seen = _by_source(activations, statistics)
            sites = [
                *(_activation(site, seen[_source(site)], outlier_factor) for site in activations),
                *(_weight(site, outlier_factor) for site in weight_sites(gm)),
            ]
    return Analysis(sites=tuple(sites), statistics=statistics, outlier_factor=outlier_factor)


def outlier_channels(ends: torch.Tensor, factor: float) -> tuple[OutlierChannel, ...]:
    """Return the channels whose largest magnitude is ``factor`` times the median one or more, farthest first.

    The median is that of the channels that hold anything but zero.

    Args:
        ends: Smallest and largest value of each channel, [2, channels].
        factor: How many times.
    """
    magnitudes = ends.abs().amax(dim=0).double()
    used = magnitudes[magnitudes > 0]
    if len(used) == 0:
        return ()
    median = float(used.quantile(0.5)) if len(used) < 2**20 else float(used.median())
    found = [
        OutlierChannel(index=index, magnitude=magnitude, ratio=magnitude / median)
        for index, magnitude in enumerate(magnitudes.tolist())
        if magnitude >= factor * median
    ]
    return tuple(sorted(found, key=lambda channel: -channel.ratio))


def _distinct(sites: Iterable[ActivationSite]) -> list[ActivationSite]:
    """Return one call of a quantizer for each tensor that it is given."""
    return list({(site.name, site.quantizer): site for site in reversed(list(sites))}.values())[::-1]


def _by_source(sites: list[ActivationSite], statistics: Statistics) -> dict[fx.Node, TensorStatistics]:
    """Return what was seen by the node that gives it: what two quantizers read was looked at once."""
    return {_source(site): statistics[site.name] for site in sites if site.name in statistics}


def _source(site: ActivationSite) -> fx.Node:
    return site.node.all_input_nodes[0]


def _activation(site: ActivationSite, seen: TensorStatistics, factor: float) -> SiteAnalysis:
    if not seen.has_range:
        return SiteAnalysis(
            name=site.name,
            layer=site.layer,
            kind="activation",
            minimum=math.nan,
            maximum=math.nan,
            elements=0,
            mse=None,
            sqnr=None,
            like=site.like,
            is_masked=seen.is_masked,
        )
    low, high = seen.range().bounds()
    ends, histogram = seen.channels.ends(), seen.histogram()
    noise = _noise(site, histogram) if site.quantizer.has_range() else None
    return SiteAnalysis(
        name=site.name,
        layer=site.layer,
        kind="activation",
        minimum=float(low.min()),
        maximum=float(high.max()),
        elements=0 if histogram is None else int(histogram.bins.sum()),
        mse=_mse(noise),
        sqnr=_sqnr(noise),
        channels=_pairs(ends),
        outliers=() if ends is None else outlier_channels(ends, factor),
        is_masked=seen.is_masked,
        like=site.like,
    )


def _noise(site: ActivationSite, histogram: ExactHistograms | None) -> Noise | None:
    graph = site.node.graph.owning_module
    held = attribute(graph, site.node.all_input_nodes[0]) if site.is_constant and graph is not None else None
    if isinstance(held, torch.Tensor):
        return noise_of_tensor(site.quantizer, held)
    return None if histogram is None else noise_of_histogram(site.quantizer, histogram)


def _weight(site: WeightSite, factor: float) -> SiteAnalysis:
    values = site.parameter.detach()
    ends = _weight_ends(values, site.quantizer)
    noise = noise_of_tensor(site.quantizer, values) if site.quantizer.has_range() and values.numel() else None
    return SiteAnalysis(
        name=site.name,
        layer=site.layer,
        kind="weight",
        minimum=float(values.min()) if values.numel() else math.nan,
        maximum=float(values.max()) if values.numel() else math.nan,
        elements=values.numel(),
        mse=_mse(noise),
        sqnr=_sqnr(noise),
        channels=_pairs(ends),
        outliers=() if ends is None else outlier_channels(ends, factor),
    )


def _weight_ends(values: torch.Tensor, quantizer: QuantizerBase) -> torch.Tensor | None:
    """Return the ends of a parameter's channels: along the axis with the most ranges, else the first one."""
    if values.dim() == 0 or not values.numel():
        return None
    sizes = tuple(getattr(quantizer, "shape", ()))
    fits = len(sizes) == values.dim() and max(sizes) > 1
    axis = sizes.index(max(sizes)) if fits else 0
    flat = values.movedim(axis, 0).reshape(values.shape[axis], -1)
    return torch.stack((flat.amin(dim=1), flat.amax(dim=1)))


def _pairs(ends: torch.Tensor | None) -> tuple[tuple[float, float], ...]:
    return () if ends is None else tuple((low, high) for low, high in ends.T.tolist())


def _mse(noise: Noise | None) -> float | None:
    return None if noise is None else noise.noise / max(noise.elements, 1)


def _sqnr(noise: Noise | None) -> float | None:
    if noise is None:
        return None
    return decibels(noise.noise / noise.signal if noise.signal else (math.inf if noise.noise else 0.0))
