"""Signature: the inputs a captured model takes, and the call that a batch stands for."""

import operator
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.nn.utils.rnn import PackedSequence

from fxquant.calibration.labels import Positions, named_values, without_labels
from fxquant.calibration.placement import holds_numbers, placement_of
from fxquant.errors import BatchError
from fxquant.graph import Example
from fxquant.graph.annotations import result_of
from fxquant.graph.guards import fixed_inputs


class Signature:
    """The inputs a captured model takes.

    Args:
        gm: The captured model.
    """

    def __init__(self, gm: fx.GraphModule) -> None:
        inputs = gm.graph.find_nodes(op="placeholder")
        self.names = [str(node.target) for node in inputs]
        self._fixed = fixed_inputs(gm)
        self._needed = {name for name in self.names if name not in self._fixed}
        self._takes_container = len(inputs) == 1 and any(
            user.target is operator.getitem and isinstance(user.args[1], str) for user in inputs[0].users
        )
        self._types = {str(node.target): result.dtype for node in inputs if (result := result_of(node))}
        last_needed = max(
            (index for index, name in enumerate(self.names) if name in self._needed), default=-1
        )
        self._positions = Positions(names=tuple(self.names), needed=last_needed + 1, defaults=self._fixed)
        self._placement = placement_of(gm)

    def bind(self, example: Example) -> dict[str, Any]:
        """Return the value of every input of a call, by name, in order."""
        given = dict(zip(self.names, example.args, strict=False)) | example.kwargs
        return {name: given[name] if name in given else self._fixed[name] for name in self.names}

    def call(self, batch: object, has_label: bool | None = None) -> Example:
        """Return the call of the model that a batch stands for, on the model's device.

        A tensor or array is the only argument, a dict holds keyword arguments, a tuple or list positional
        ones; named tuples and dataclasses are either. Labels are dropped (``fxquant.calibration.labels``).
        Arrays become tensors, floating ones of the model's own type; so do lists of numbers, and numbers
        where the model was captured with a tensor.

        Args:
            batch: The batch.
            has_label: Whether the last value of a tuple is a label; None for the rule.

        Raises:
            BatchError: If the batch does not fit the model's inputs.
        """
        if isinstance(batch, Example):
            return batch
        named = None if self._is_only_input(batch) else named_values(batch, set(self.names))
        if named is not None:
            return self._checked(Example(kwargs=without_labels(named, self._needed)))
        if self._is_only_input(batch) or isinstance(batch, torch.Tensor | np.ndarray | PackedSequence):
            return self._checked(Example(args=(batch,)))
        if holds_numbers(batch):
            return self._checked(Example(args=(batch,)))
        if isinstance(batch, tuple | list):
            return self._checked(Example(args=self._positions.without_label(tuple(batch), has_label)))
        raise BatchError(
            f"A batch must be a tensor, a tuple or a dict, not {type(batch).__name__}.",
            remedy="Yield tensors, tuples of positional arguments, or dicts of keyword arguments.",
        )

    def kinds(self, example: Example) -> dict[str, str]:
        """Return what kind of value every input that is not fixed is given, in words."""
        return {name: _kind(value) for name, value in self.bind(example).items() if name in self._needed}

    def _is_only_input(self, batch: object) -> bool:
        """Whether a dict or dataclass is the model's only input, rather than its arguments."""
        if len(self.names) != 1:
            return False
        if isinstance(batch, Mapping):
            return self.names[0] not in batch and self._takes_container
        return is_dataclass(batch) and named_values(batch, set(self.names)) is None

    def _checked(self, example: Example) -> Example:
        unknown = [name for name in example.kwargs if name not in self.names]
        if unknown:
            raise BatchError(
                f"The model has no input named '{unknown[0]}'.",
                remedy=f"Its inputs are: {', '.join(self.names)}.",
            )
        given = {*self.names[: len(example.args)], *example.kwargs}
        missing = [name for name in self.names if name not in given and name not in self._fixed]
        if missing or len(example.args) > len(self.names):
            raise BatchError(
                f"A batch of {max(len(given), len(example.args))} value(s) does not fit the inputs: "
                f"{', '.join(self.names)}.",
                remedy="Yield what forward takes, maybe followed by a label. An optional input has its "
                "default unless prepare's example_inputs give it.",
            )
        args = tuple(self._placed(name, value) for name, value in zip(self.names, example.args, strict=False))
        return Example(args=args, kwargs={name: self._placed(name, v) for name, v in example.kwargs.items()})

    def _placed(self, name: str, value: Any) -> Any:
        """Return a value as the input takes it; without an example, capture knows no tensors."""
        is_number = isinstance(value, int | float) and name in self._types
        may_be_tensor = not self._types or name in self._types
        if is_number or (may_be_tensor and holds_numbers(value)):
            is_floating = name in self._types and self._types[name].is_floating_point
            return self._placement.number(value, is_floating)
        return self._placement.placed(value)


def _kind(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return "a floating tensor" if value.is_floating_point() else "a tensor of integers"
    return "a number" if isinstance(value, int | float) else f"a {type(value).__name__}"
