"""calibrate_blockwise: find the range of every quantizer with one block of the model in memory at a time."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from fxquant.calibration import calibrate as whole
from fxquant.calibration.batches import Signature, calls_of
from fxquant.calibration.blockwise import run_blockwise
from fxquant.calibration.interpreter import CalibrationInterpreter, quantizer_sites, weight_sites
from fxquant.calibration.offload import Offload
from fxquant.errors import BatchError, FxQuantError, NonFiniteError, first_line
from fxquant.graph import Example, Stage, get_record, set_record
from fxquant.graph.annotations import TENSOR, layer_of
from fxquant.graph.blocks import Block
from fxquant.graph.nested import interpreted
from fxquant.quantization.of_spec import Trainable
from fxquant.storage import releasing

_Sites = list[tuple[fx.Node, Trainable]]


def calibrate_blockwise(gm: fx.GraphModule, batches: object, offload: Offload) -> None:
    """Run batches block by block and set the range of every quantizer, as ``calibrate_graph`` does.

    Args:
        gm: What ``prepare`` returned.
        batches: An iterable of batches; it is iterated over once.
        offload: Where parameters and activations are meanwhile.

    Raises:
        ModelTypeError: If gm is not a prepared model.
        BatchError: If there is no batch, or one does not fit the model.
        NonFiniteError: If NaN or Inf shows up where a range is measured.
    """
    record = get_record(gm, Stage.PREPARED)
    sites = [(node, q) for node, q in quantizer_sites(gm) if q.is_overwrite_allowed()]
    weights = weight_sites(gm)
    for quantizer in {*(q for _, q in sites), *(q for _, _, q in weights)}:
        whole._analyzer(quantizer).reset_stats()
    interpreter = CalibrationInterpreter(gm, {quantizer for _, quantizer in sites})
    first: list[Example] = []

    def calls() -> Iterator[list[Any]]:
        signature = Signature(gm)
        for example in calls_of(batches, signature):
            first[:] = first or [example]
            yield list(signature.bind(example).values())

    def observe_weights(block: Block) -> None:
        owners = {id(entry.owner) for entry in block.held}
        for layer, parameter, quantizer in weights:
            if id(gm.get_submodule(layer)) in owners and not whole._has_seen(quantizer):
                whole._analyzer(quantizer).update_stats(parameter.detach())
                whole._check_finite(quantizer, layer, f"the weight of '{layer}'", "Mend the weight.")

    with (
        interpreted(gm, interpreter._below),
        contextlib.closing(run_blockwise(gm, interpreter, calls(), offload, observe_weights)) as steps,
    ):
        _run(steps, sites, interpreter)
    if not first:
        raise BatchError(
            "The data holds no batch.",
            remedy="Pass a list or DataLoader; a generator that was used up before gives nothing again.",
        )
    _remove_unseen(gm, sites, interpreter)
    for quantizer in {*(q for _, q in sites), *(q for _, _, q in weights)}:
        if whole._has_seen(quantizer):
            quantizer.set_range_from_stats()
    with releasing(gm):
        set_record(gm, replace(record, example=record.example or whole._remembered(gm, first[0])))


def _run(steps: Iterator[tuple[Block, int]], sites: _Sites, interpreter: CalibrationInterpreter) -> None:
    of_block: dict[int, _Sites] = {}
    try:
        for block, index in steps:
            if id(block) not in of_block:
                nodes = set(block.nodes)
                of_block = {id(block): [(node, q) for node, q in sites if node in nodes]}
            _check_batch(of_block[id(block)], index)
    except FxQuantError:
        raise
    except Exception as error:  # whatever the model raises on data that it does not take
        raise BatchError(
            f"The model rejects a batch: {first_line(error)}.",
            layer=interpreter.last_layer() or None,
            remedy="Yield batches of the shape and type that the float model takes.",
        ) from error


def _check_batch(sites: _Sites, index: int) -> None:
    for node, quantizer in sites:
        observed = whole._analyzer(quantizer).observed_range
        ends = None if observed is None else torch.cat([end.reshape(-1) for end in observed])
        if ends is not None and not bool((ends.isfinite() | (ends == -torch.inf)).all()):
            raise NonFiniteError(
                f"NaN or Inf in batch {index} of the calibration data, first in tensor "
                f"'{node.meta.get(TENSOR, node.name)}'.",
                layer=layer_of(node) or None,
                remedy="Remove such values from the data, or mend that layer.",
            )


def _remove_unseen(gm: fx.GraphModule, sites: _Sites, interpreter: CalibrationInterpreter) -> None:
    """Remove the quantizers of tensors without a range: integers, masks that end nowhere, nothing at all."""
    whole._remove_quantizers(gm, interpreter.integer_sites)
    masked = whole._without_range(gm, sites, interpreter.masked_sites)
    for node in masked:
        whole._report_masked(gm, node, "it holds a mask's lowest values, so it has no range to quantize")
    empty = [n for n, q in sites if n in interpreter.empty_sites and not whole._has_seen(q)]
    whole._remove_quantizers(gm, [*masked, *empty])
    sites[:] = [(node, quantizer) for node, quantizer in sites if node not in (*masked, *empty)]
