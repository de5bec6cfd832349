"""Batches: what users iterate over, as calls of their model."""

import inspect
import itertools
import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import fx

from fxquant.errors import BatchError
from fxquant.graph import Example
from fxquant.graph.guards import fixed_inputs

_LABELS = ("label", "labels", "target", "targets")


class Signature:
    """The inputs a captured model takes.

    Args:
        gm: The captured model.
    """

    def __init__(self, gm: fx.GraphModule) -> None:
        inputs = gm.graph.find_nodes(op="placeholder")
        self.names = [str(node.target) for node in inputs]
        self._fixed = fixed_inputs(gm)
        self._takes_container = len(inputs) == 1 and any(
            user.target is operator.getitem and isinstance(user.args[1], str) for user in inputs[0].users
        )

    def bind(self, example: Example) -> dict[str, Any]:
        """Return the value of every input of a call, by name, in order."""
        given = dict(zip(self.names, example.args, strict=False)) | example.kwargs
        return {name: given[name] if name in given else self._fixed[name] for name in self.names}

    def call(self, batch: object) -> Example:
        """Return the call of the model that a batch stands for.

        A tensor is the only argument, a dict holds keyword arguments, a tuple or list positional ones. One
        element too many at the end of a tuple is a label and is dropped, as are the keys "label", "labels",
        "target" and "targets" of a dict where the model has no such input.

        Raises:
            BatchError: If the batch does not fit the model's inputs.
        """
        if isinstance(batch, Example):
            return batch
        if isinstance(batch, torch.Tensor):
            return self._checked(Example(args=(batch,)))
        if isinstance(batch, Mapping) and self._is_only_input(batch):
            return self._checked(Example(args=(batch,)))
        if isinstance(batch, Mapping):
            kept = {key: value for key, value in batch.items() if key in self.names or key not in _LABELS}
            return self._checked(Example(kwargs=kept))
        if isinstance(batch, tuple | list):
            has_label = len(batch) == len(self.names) + 1
            return self._checked(Example(args=tuple(batch[:-1] if has_label else batch)))
        raise BatchError(
            f"A batch must be a tensor, a tuple or a dict, not {type(batch).__name__}.",
            remedy="Yield tensors, tuples of positional arguments, or dicts of keyword arguments.",
        )

    def _is_only_input(self, batch: Mapping[Any, Any]) -> bool:
        """Whether a dict is the model's only input, rather than its keyword arguments."""
        return len(self.names) == 1 and self.names[0] not in batch and self._takes_container

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
                f"A batch of {len(given)} value(s) does not fit the inputs: {', '.join(self.names)}.",
                remedy="Yield what forward takes, maybe followed by a label. An optional input has its "
                "default unless prepare's example_inputs give it.",
            )
        return example


def example_call(model: object, example_inputs: object) -> Example:
    """Return the call of a float model that example inputs stand for.

    A tensor is the only argument, a dict holds keyword arguments (or is the only argument of a model that has
    no such parameters), a tuple or list holds positional ones.

    Raises:
        BatchError: If they do not fit the model's forward.
    """
    if isinstance(example_inputs, Example):
        return example_inputs
    if isinstance(example_inputs, Mapping):
        candidates = [Example(kwargs=dict(example_inputs)), Example(args=(example_inputs,))]
    elif isinstance(example_inputs, tuple | list):
        candidates = [Example(args=tuple(example_inputs))]
    else:
        candidates = [Example(args=(example_inputs,))]
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


def peek(batches: object) -> tuple[object, object]:
    """Return the first batch, None if there is none, and batches that begin with it again."""
    if isinstance(batches, torch.Tensor | Mapping | Example) or not isinstance(batches, Iterable):
        return batches, batches
    if not isinstance(batches, Iterator):
        return next(iter(batches), None), batches
    first = next(batches, None)
    return first, [] if first is None else itertools.chain((first,), batches)


def without_label(model: object, batch: object) -> object:
    """Return a batch as example inputs: without the label that follows the inputs a model must be given."""
    forward = getattr(model, "forward", None)
    if forward is None or not isinstance(batch, tuple | list | Mapping):
        return batch
    parameters = inspect.signature(forward).parameters.values()
    if isinstance(batch, Mapping):
        names = [parameter.name for parameter in parameters]
        return {key: value for key, value in batch.items() if key in names or key not in _LABELS}
    needed = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    return tuple(batch[:-1]) if len(batch) == len(needed) + 1 else tuple(batch)


def calls_of(batches: object, signature: Signature) -> Iterator[Example]:
    """Yield the call of the model that each batch stands for.

    Args:
        batches: An iterable of batches; a single tensor or dict is one batch.
        signature: The model's inputs.

    Raises:
        BatchError: If it cannot be iterated over, or a batch does not fit the model's inputs.
    """
    if isinstance(batches, torch.Tensor | Mapping | Example):
        batches = (batches,)
    if not isinstance(batches, Iterable):
        hint = " Call it and pass what it returns." if inspect.isroutine(batches) else ""
        raise BatchError(
            f"Batches must be an iterable, not {type(batches).__name__}.",
            remedy=f"Pass a DataLoader, a list or a generator of batches.{hint}",
        )
    for batch in batches:
        yield signature.call(batch)
