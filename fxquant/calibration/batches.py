"""Batches: what users iterate over, as calls of their model."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from fxquant.errors import BatchError
from fxquant.graph import Example

_LABELS = ("label", "labels", "target", "targets")


class Signature:
    """The inputs a captured model takes.

    Args:
        gm: The captured model.
    """

    def __init__(self, gm: fx.GraphModule) -> None:
        self.names = [str(node.target) for node in gm.graph.find_nodes(op="placeholder")]

    def bind(self, example: Example) -> dict[str, Any]:
        """Return the value of every input of a call, by name, in order."""
        given = dict(zip(self.names, example.args, strict=False)) | example.kwargs
        return {name: given[name] for name in self.names}

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

    def _checked(self, example: Example) -> Example:
        unknown = [name for name in example.kwargs if name not in self.names]
        if unknown:
            raise BatchError(
                f"The model has no input named '{unknown[0]}'.",
                remedy=f"Its inputs are: {', '.join(self.names)}.",
            )
        given = {*self.names[: len(example.args)], *example.kwargs}
        missing = [name for name in self.names if name not in given]
        if missing or len(example.args) > len(self.names):
            raise BatchError(
                f"A batch of {len(given)} value(s) does not fit the inputs: {', '.join(self.names)}.",
                remedy="Yield what forward takes, maybe followed by a label. An optional input has its "
                "default unless prepare's example_inputs give it.",
            )
        return example


def given_inputs(model: nn.Module, example_inputs: object) -> list[str]:
    """Return the names of the inputs that example inputs give; none where there are no example inputs."""
    if isinstance(example_inputs, Mapping):
        return [str(name) for name in example_inputs]
    if example_inputs is None or not isinstance(model, nn.Module):
        return []
    count = len(example_inputs) if isinstance(example_inputs, tuple | list) else 1
    return list(inspect.signature(model.forward).parameters)[:count]


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
