"""Functions of captured graphs that fx can trace again, as it does when it loads a pickled graph."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import fx
from torch.nn.utils.rnn import PackedSequence

Function = TypeVar("Function", bound=Callable[..., Any])


def recordable(function: Function) -> Function:
    """Let a function be written down as one call when it is given proxies."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        proxy = next((value for value in args if isinstance(value, fx.Proxy)), None)
        if proxy is not None:
            return proxy.tracer.create_proxy("call_function", call, args, {})
        return function(*args)

    return call  # type: ignore[return-value]  # the same signature


@recordable
def length_of(value: Any) -> int:
    """Return the number of elements of a tuple or list."""
    return len(value)


@recordable
def truth_of(value: Any) -> bool:
    """Return a one-element tensor as a bool."""
    return bool(value)


@recordable
def rounded(value: Any, *digits: Any) -> Any:
    """Return a rounded number."""
    return round(value, *digits)


@recordable
def setitem_(tensor: Any, index: Any, value: Any) -> None:
    """Write into a tensor, in place."""
    tensor[index] = value


@recordable
def packed_sequence(data: Any, batch_sizes: Any, sorted_indices: Any, unsorted_indices: Any) -> Any:
    """Return sequences of several lengths as torch packs them."""
    return PackedSequence(data, batch_sizes, sorted_indices, unsorted_indices)


@recordable
def first_sorted(tensor: Any, k: Any, dim: int = -1, largest: bool = True) -> Any:
    """Return the k largest or smallest values and their indices; of equal values, the first ones.

    This is how ONNX defines TopK; torch.topk leaves open which of equal values it takes.
    """
    if not tensor.dim():
        return tensor.topk(k)
    values, indices = tensor.sort(dim=dim, descending=largest, stable=True)
    return torch.return_types.topk((values.narrow(dim, 0, k), indices.narrow(dim, 0, k)))


@recordable
def with_item(tensor: Any, index: Any, value: Any) -> Any:
    """Return a copy of a tensor with a value written into a part of it."""
    copied = tensor.clone()
    copied[index] = value
    return copied
