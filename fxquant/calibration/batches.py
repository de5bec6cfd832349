"""Batches: what users iterate over, as calls of their model."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import fx

from fxquant.errors import BatchError
from fxquant.graph import Example

_LABELS = ("label", "labels", "target", "targets")


class Signature:
    """The inputs a captured model takes.

    Args:
        gm: The captured model.
    """

    def __init__(self, gm: fx.GraphModule) -> None:
        inputs = gm.graph.find_nodes(op="placeholder")
        self.names = [str(node.target) for node in inputs]
        self.required = [str(node.target) for node in inputs if not node.args]
        self._defaults = {str(node.target): node.args[0] for node in inputs if node.args}

    def bind(self, example: Example) -> dict[str, Any]:
        """Return the value of every input of a call, by name, in order; defaults where nothing is given."""
        given = dict(zip(self.names, example.args, strict=False)) | example.kwargs
        return {name: given.get(name, self._defaults.get(name)) for name in self.names}

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
            if len(batch) > len(self.required) and not has_label and len(self.names) > len(self.required):
                self._refuse_ambiguous(batch)
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
        missing = [name for name in self.required if name not in given]
        if missing or len(example.args) > len(self.names):
            raise BatchError(
                f"A batch of {len(given)} value(s) does not fit the inputs: {', '.join(self.names)}.",
                remedy="Yield what the model's forward takes, optionally followed by a label.",
            )
        return example

    def _refuse_ambiguous(self, batch: tuple[Any, ...] | list[Any]) -> None:
        optional = [name for name in self.names if name not in self.required]
        raise BatchError(
            f"The last of {len(batch)} values may be a label or the optional input '{optional[0]}'.",
            remedy="Yield dicts with the input names as keys.",
        )


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
