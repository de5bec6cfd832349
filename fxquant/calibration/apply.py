"""apply: set the ranges of a prepared model from statistics, without data."""

from collections.abc import Collection

from torch import fx

from fxquant.calibration.choices import Choices
from fxquant.calibration.masks import bound_masks
from fxquant.calibration.methods import set_range
from fxquant.calibration.sites import ActivationSite, open_sites, weight_sites
from fxquant.calibration.statistics import Statistics
from fxquant.calibration.tensor_statistics import TensorStatistics
from fxquant.calibration.weights import set_weight_range
from fxquant.errors import StatisticsError, some_of
from fxquant.graph import Site, Stage, get_record, graphs_of
from fxquant.graph.edit import bypass
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.quantization.encoding_analyzer import EncodingAnalyzer
from fxquant.quantization.of_spec import Trainable
from fxquant.targets import get_target

_Sites = list[ActivationSite]


def apply(gm: fx.GraphModule, statistics: Statistics, choices: Choices) -> None:
    """Set the range of every quantizer of a prepared model that calibration may change.

    Quantizers of tensors that turned out to be no float tensors, or to hold nothing but masks, are removed.
    An error leaves the model as it was.

    Args:
        gm: The prepared model.
        statistics: What was seen of its tensors.
        choices: The method of each.

    Raises:
        OptionError: If an override fits nothing.
        StatisticsError: If there are no statistics of a tensor, or not of the kind that its method needs.
    """
    sites = open_sites(gm)
    weights = weight_sites(gm)
    choices.check(sites, weights)
    _check_known(sites, statistics)
    kept = [site for site in sites if not _is_integer(statistics[site.name])]
    analyzers = _analyzers(kept, statistics, choices)
    _remove_quantizers(gm, {site.node for site in sites} - {site.node for site in kept})
    bounded, masked = _masked(gm, kept, statistics)
    unseen = {site.node for site in kept if site.quantizer not in analyzers and _is_empty(site, statistics)}
    _remove_quantizers(gm, masked | unseen)
    for quantizer, analyzer in analyzers.items():
        if quantizer not in bounded:
            set_range(quantizer, analyzer)
    for site in weights:
        set_weight_range(site, choices.of_weight(site))


def _check_known(sites: _Sites, statistics: Statistics) -> None:
    missing = list(dict.fromkeys(site.name for site in sites if site.name not in statistics))
    if missing:
        raise StatisticsError(
            f"The statistics know nothing of {len(missing)} quantized tensor(s): {some_of(missing)}.",
            remedy="Collect them with a model prepared for a target that quantizes these too.",
        )


def _analyzers(sites: _Sites, statistics: Statistics, choices: Choices) -> dict[Trainable, EncodingAnalyzer]:
    """Return an analyzer for each quantizer of a tensor that was seen: of all its tensors together."""
    by_quantizer: dict[Trainable, _Sites] = {}
    for site in sites:
        if site.like is None:
            by_quantizer.setdefault(site.quantizer, []).append(site)
    analyzers = {}
    for quantizer, own in by_quantizer.items():
        tensors = list(dict.fromkeys(statistics[site.name] for site in own))
        seen = [tensor for tensor in tensors if tensor.has_range]
        if seen:
            method = choices.of_activation(own[0]).serving(quantizer)
            analyzers[quantizer] = method.analyzer_for(_together(seen))
    return analyzers


def _is_integer(tensor: TensorStatistics) -> bool:
    """Whether a tensor never was a float tensor."""
    return tensor.is_integer and not tensor.has_range


def _together(tensors: list[TensorStatistics]) -> TensorStatistics:
    if len(tensors) == 1:
        return tensors[0]
    first = tensors[0]
    whole = TensorStatistics(first.kinds, first.shape, first.block_size)
    for tensor in tensors:
        whole.merge(tensor)
    return whole


def _is_empty(site: ActivationSite, statistics: Statistics) -> bool:
    tensor = statistics[site.name]
    return tensor.is_empty and not tensor.has_range


def _masked(gm: fx.GraphModule, sites: _Sites, statistics: Statistics) -> tuple[set[Trainable], set[fx.Node]]:
    """Return quantizers that got ranges which end behind a mask, and calls of those that masks leave none."""
    masked = {site.quantizer for site in sites if statistics[site.name].is_masked}
    calls = [site for site in sites if site.quantizer in masked]
    left = {site.node for site in calls}
    if calls and get_target(get_record(gm, Stage.PREPARED).target).bounds_masks:
        left = {site.node for site in calls if not isinstance(site.quantizer, QuantizeDequantize)}
        observed = _observed(sites, statistics)
        for graph in graphs_of(gm):
            own = [
                (site.node, site.quantizer)
                for site in calls
                if site.node.graph is graph.graph and isinstance(site.quantizer, QuantizeDequantize)
            ]
            left |= set(bound_masks(graph, own, observed))
    for site in calls:
        _report_masked(gm, site, is_bounded=site.node not in left)
    return {site.quantizer for site in calls if site.node not in left}, left


def _observed(sites: _Sites, statistics: Statistics) -> dict[Trainable, tuple[float, float]]:
    """Return the range, with 0 in it, of what each quantizer's tensors hold."""
    ranges: dict[Trainable, tuple[float, float]] = {}
    for site in sites:
        low, high = ranges.get(site.quantizer, (0.0, 0.0))
        tensor = statistics[site.name]
        if tensor.has_range:
            minimum, maximum = tensor.range().bounds()
            low, high = min(low, float(minimum.min())), max(high, float(maximum.max()))
        ranges[site.quantizer] = low, high
    return ranges


def _report_masked(gm: fx.GraphModule, site: ActivationSite, is_bounded: bool) -> None:
    reason = "it holds a mask's lowest values, so it has no range to quantize"
    if is_bounded:
        reason = "its range ends where a softmax gives 0: what a mask hides lies there"
    entry = Site(
        rewrite="calibrate",
        node=site.node.all_input_nodes[0].name,
        layer=site.layer,
        op=site.name,
        applied=is_bounded,
        reason=reason,
    )
    get_record(gm, Stage.PREPARED).report.sites.append(entry)


def _remove_quantizers(gm: fx.GraphModule, calls: Collection[fx.Node]) -> None:
    """Remove calls of quantizers."""
    for graph in graphs_of(gm):
        own = [node for node in graph.graph.nodes if node in calls]
        for node in own:
            bypass(graph, node, node.all_input_nodes[0])
        if own:
            graph.delete_all_unused_submodules()
            graph.recompile()
