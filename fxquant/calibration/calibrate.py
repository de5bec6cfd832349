"""calibrate_graph: find the range of every quantizer of a prepared model from data."""

import logging
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from fxquant.calibration.batches import as_batches, calls_of, no_batch
from fxquant.calibration.interpreter import (
    CalibrationInterpreter,
    NonFiniteFinder,
    quantizer_sites,
    weight_sites,
)
from fxquant.calibration.masks import bound_masks
from fxquant.calibration.progress import with_progress
from fxquant.calibration.signature import Signature
from fxquant.errors import BatchError, NonFiniteError, first_line
from fxquant.graph import Example, Site, Stage, get_record, graphs_of, set_record
from fxquant.graph.annotations import TENSOR, layer_of
from fxquant.graph.edit import bypass
from fxquant.graph.fresh import rows_of
from fxquant.quantization.affine import QuantizeDequantize
from fxquant.quantization.encoding_analyzer import EncodingAnalyzer
from fxquant.quantization.of_spec import Trainable
from fxquant.targets import get_target

log = logging.getLogger(__name__)

_Sites = list[tuple[fx.Node, Trainable]]


def calibrate_graph(gm: fx.GraphModule, batches: object) -> None:
    """Run batches through a prepared model in float and set the range of every quantizer.

    Ranges are written once, at the end: an error leaves the model as it was.

    Args:
        gm: What ``prepare`` returned.
        batches: An iterable of batches.

    Raises:
        ModelTypeError: If gm is not a prepared model.
        BatchError: If there is no batch, or one does not fit the model.
        NonFiniteError: If NaN or Inf shows up where a range is measured.
    """
    record = get_record(gm, Stage.PREPARED)
    sites = [(node, q) for node, q in quantizer_sites(gm) if q.is_overwrite_allowed()]
    weights = weight_sites(gm)
    for layer, parameter, quantizer in weights:
        _analyzer(quantizer).reset_stats()
        _analyzer(quantizer).update_stats(parameter)
        _check_finite(quantizer, layer, f"the weight of '{layer}'", "Mend the weight.")
    for _, quantizer in sites:
        _analyzer(quantizer).reset_stats()
    example = _observe(gm, sites, batches)
    for _, quantizer in sites:
        if _analyzer(quantizer).observed_range is not None:
            quantizer.set_range_from_stats()
    for _, _, quantizer in weights:
        quantizer.set_range_from_stats()
    for _, quantizer in sites:
        _analyzer(quantizer).reset_stats()
    set_record(gm, replace(record, example=record.example or _remembered(gm, example)))


def uncalibrated_layers(gm: fx.GraphModule) -> list[str]:
    """Return the names of quantized tensors and layers whose quantizer has no range, in graph order."""
    activations = [(str(node.meta.get(TENSOR, node.name)), q) for node, q in quantizer_sites(gm)]
    weights = [(layer, quantizer) for layer, _, quantizer in weight_sites(gm)]
    return list(dict.fromkeys(name for name, q in activations + weights if not q.has_range()))


def _observe(gm: fx.GraphModule, sites: _Sites, batches: object) -> Example:
    """Run every batch; return the first one."""
    interpreter, signature = CalibrationInterpreter(gm, {quantizer for _, quantizer in sites}), Signature(gm)
    first: Example | None = None
    batches = as_batches(batches)
    with torch.no_grad():
        for index, example in enumerate(with_progress(calls_of(batches, signature), batches)):
            _run(interpreter, signature, example, index)
            _check_batch(gm, sites, signature.bind(example), index)
            first = first or example
    if first is None:
        raise no_batch()
    _remove_quantizers(gm, interpreter.integer_sites)
    masked = _without_range(gm, sites, interpreter.masked_sites)
    for node in masked:
        _report_masked(gm, node, "it holds a mask's lowest values, so it has no range to quantize")
    unseen = [(n, q) for n, q in sites if n in interpreter.empty_sites and not _has_seen(q)]
    removed = [*masked, *(node for node, _ in unseen)]
    _remove_quantizers(gm, removed)
    sites[:] = [(node, quantizer) for node, quantizer in sites if node not in removed]
    return first


def _analyzer(quantizer: Trainable) -> EncodingAnalyzer:
    assert quantizer.encoding_analyzer is not None  # every quantizer of codes has one
    return quantizer.encoding_analyzer


def _has_seen(quantizer: Trainable) -> bool:
    return _analyzer(quantizer).observed_range is not None


def _without_range(gm: fx.GraphModule, sites: _Sites, masked: set[fx.Node]) -> list[fx.Node]:
    """Return the calls of quantizers that masks leave without a range.

    Where the target bounds masks, the others get theirs.
    """
    tensors = {quantizer for node, quantizer in sites if node in masked}
    calls = [(node, quantizer) for node, quantizer in sites if quantizer in tensors]
    if not get_target(get_record(gm, Stage.PREPARED).target).bounds_masks:
        return [node for node, _ in calls]
    affine = [(node, quantizer) for node, quantizer in calls if isinstance(quantizer, QuantizeDequantize)]
    left = [node for node, quantizer in calls if not isinstance(quantizer, QuantizeDequantize)]
    for graph in graphs_of(gm):
        own = [(node, quantizer) for node, quantizer in affine if node.graph is graph.graph]
        left += bound_masks(graph, own)
    for node, _ in calls:
        if node not in left:
            _report_masked(
                gm, node, "its range ends where a softmax gives 0: what a mask hides lies there", True
            )
    kept = {quantizer for node, quantizer in calls if node not in left}
    sites[:] = [(node, quantizer) for node, quantizer in sites if quantizer not in kept]
    return left


def _report_masked(gm: fx.GraphModule, node: fx.Node, reason: str, is_bounded: bool = False) -> None:
    site = Site(
        rewrite="calibrate",
        node=node.all_input_nodes[0].name,
        layer=layer_of(node),
        op=str(node.meta.get(TENSOR, node.name)),
        applied=is_bounded,
        reason=reason,
    )
    get_record(gm, Stage.PREPARED).report.sites.append(site)


def _remembered(gm: fx.GraphModule, example: Example) -> Example:
    """Return copies of a call's arguments to export with, of two rows where the model runs on two."""
    small = _copied(example, 2)
    try:
        with torch.no_grad():
            CalibrationInterpreter(gm, set()).run_all(*Signature(gm).bind(small).values())
    except Exception:  # whatever the model raises where its batch size is fixed
        return _copied(example, None)
    return small


def _copied(example: Example, most: int | None) -> Example:
    """Return copies of a call's arguments, cut to the first rows where ``most`` is given."""
    rows = rows_of(example)

    def kept(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        has_rows = value.dim() > 0 and value.shape[0] == rows
        return (value[:most] if has_rows else value).detach().clone()

    return Example(
        args=tuple(kept(value) for value in example.args),
        kwargs={name: kept(value) for name, value in example.kwargs.items()},
    )


def _remove_quantizers(gm: fx.GraphModule, sites: Collection[fx.Node]) -> None:
    """Remove the quantizers of tensors that turned out to hold integers or booleans, such as masks."""
    for graph in graphs_of(gm):
        own = [node for node in sites if node.graph is graph.graph]
        for node in own:
            bypass(graph, node, node.all_input_nodes[0])
        if own:
            graph.delete_all_unused_submodules()
            graph.recompile()


def _run(interpreter: CalibrationInterpreter, signature: Signature, example: Example, index: int) -> None:
    try:
        interpreter.run_all(*signature.bind(example).values())
    except Exception as error:  # whatever the model raises on data that it does not take
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in example.tensors())
        raise BatchError(
            f"The model rejects batch {index} (shapes {shapes}): {first_line(error)}.",
            layer=interpreter.last_layer() or None,
            remedy="Yield batches of the shape and type that the float model takes.",
        ) from error


def _check_batch(gm: fx.GraphModule, sites: _Sites, inputs: dict[str, Any], index: int) -> None:
    """Check all statistics at once; only on failure run the batch again to find the first layer."""
    ranges = [_analyzer(q).observed_range for _, q in sites]
    bounds = [bound.reshape(-1).double() for pair in ranges if pair is not None for bound in pair]
    if not bounds or bool((torch.cat(bounds).isfinite() | (torch.cat(bounds) == -torch.inf)).all()):
        return
    finder = NonFiniteFinder(gm)
    finder.run_all(*inputs.values())
    name, layer = (finder.found or [("", "")])[0]
    raise NonFiniteError(
        f"NaN or Inf in batch {index} of the calibration data, first in tensor '{name}'.",
        layer=layer or None,
        remedy="Remove such values from the data, or mend that layer.",
    )


def _check_finite(quantizer: Trainable, layer: str, what: str, remedy: str) -> None:
    observed = _analyzer(quantizer).observed_range
    if observed is not None and not bool(torch.stack(observed).isfinite().all()):
        raise NonFiniteError(f"NaN or Inf in {what}.", layer=layer or None, remedy=remedy)
