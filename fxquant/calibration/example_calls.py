"""example_call: the call of a float model that example inputs, or a batch, stand for."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch.nn.utils.rnn import PackedSequence

from fxquant.calibration.labels import Positions, named_values, without_labels
from fxquant.calibration.placement import holds_numbers, placement_of
from fxquant.errors import BatchError
from fxquant.graph import Example

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def example_call(model: object, example_inputs: object) -> Example:
    """Return the call of a float model that example inputs stand for, on the model's device.

    A tensor or array is the only argument, a dict holds keyword arguments (or is the only argument of a model
    that has no such parameters), a tuple or list holds positional ones. Arrays become tensors.

    Raises:
        BatchError: If they do not fit the model's forward.
    """
    if isinstance(example_inputs, Example):
        return example_inputs
    placed = placement_of(model).placed(example_inputs)
    if isinstance(placed, Mapping):
        candidates = [Example(kwargs=dict(placed)), Example(args=(placed,))]
    elif isinstance(placed, tuple | list) and not isinstance(placed, PackedSequence):
        candidates = [Example(args=tuple(placed))]
    else:
        candidates = [Example(args=(placed,))]
    forward = getattr(model, "forward", None)
    if forward is None:
        return candidates[0]  # capture says what a model is
    for candidate in candidates:
        try:
            inspect.signature(forward).bind(*candidate.args, **candidate.kwargs)
        except TypeError as error:
            misfit = error
        else:
            return candidate
    names = ", ".join(inspect.signature(forward).parameters)
    raise BatchError(
        f"The example inputs do not fit the model's forward({names}): {misfit}.",
        remedy="Pass a tensor, a tuple of positional arguments or a dict of keyword arguments.",
    ) from misfit


def batch_call(model: object, batch: object, has_label: bool | None = None) -> Example:
    """Return the call of a float model that a batch of its data stands for: example inputs, less the label.

    Lists of numbers become tensors too.

    Args:
        model: The float model.
        batch: The batch.
        has_label: Whether the last value of a tuple is a label; None for the rule.

    Raises:
        BatchError: If it does not fit the model's forward, or it is not known whether it has a label.
    """
    forward = getattr(model, "forward", None)
    if forward is None or isinstance(batch, Example):
        return example_call(model, batch)
    parameters = list(inspect.signature(forward).parameters.values())
    named = named_values(batch, {parameter.name for parameter in parameters})
    placement = placement_of(model)

    def given(value: Any) -> Any:
        return placement.number(value) if holds_numbers(value) else value

    if named is not None:
        needed = {p.name for p in parameters if p.default is p.empty}
        kept = without_labels(named, needed)
        return example_call(model, {name: given(value) for name, value in kept.items()})
    if isinstance(batch, PackedSequence) or not isinstance(batch, tuple | list) or holds_numbers(batch):
        return example_call(model, given(batch))
    values = _positions(parameters).without_label(tuple(batch), has_label)
    return example_call(model, tuple(map(given, values)))


def _positions(parameters: list[inspect.Parameter]) -> Positions:
    by_position = [p for p in parameters if p.kind in _BY_POSITION]
    defaults: dict[str, Any] = {p.name: p.default for p in by_position if p.default is not p.empty}
    return Positions(
        names=tuple(p.name for p in by_position),
        needed=len(by_position) - len(defaults),
        defaults=defaults,
        is_open=any(p.kind is p.VAR_POSITIONAL for p in parameters),
    )
