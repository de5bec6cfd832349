"""What becomes of an encoding when a torch function takes a tensor that carries one: the table."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

Function = Callable[..., Any]


def _of_tensor(names: Iterable[str]) -> set[Function]:
    return {getattr(torch.Tensor, name) for name in names if hasattr(torch.Tensor, name)}


def _of_both(names: Iterable[str]) -> set[Function]:
    return _of_tensor(names) | {getattr(torch, name) for name in names if hasattr(torch, name)}


KEEPS: frozenset[Function] = frozenset(_of_tensor(("contiguous", "requires_grad_", "share_memory_")))
"""The values stay where they are: any encoding stays."""

CASTS: frozenset[Function] = frozenset(
    _of_tensor(
        (
            *("half", "float", "double", "bfloat16", "bool", "char", "short", "int", "long", "byte"),
            *("cuda", "cpu", "to", "type", "type_as"),
        )
    )
)
"""Other type or device: the encoding follows; a tensor of integers carries none."""

COPIES: frozenset[Function] = frozenset(_of_tensor(("__deepcopy__", "__reduce_ex__", "_reduce_ex_internal")))
"""Copies that look after the attributes of a tensor themselves."""

MOVES: frozenset[Function] = frozenset(
    _of_both(
        (
            *("as_strided", "as_strided_copy", "broadcast_to", "chunk", "dsplit", "expand", "expand_as"),
            *("expand_copy", "flatten", "flip", "fliplr", "flipud", "gather", "hsplit", "index_select"),
            *("kthvalue", "masked_select", "movedim", "moveaxis", "msort", "narrow", "narrow_copy"),
            *("permute", "permute_copy", "repeat", "reshape", "reshape_as", "resize", "resize_"),
            *("resize_as", "resize_as_", "select", "split", "squeeze", "squeeze_", "squeeze_copy"),
            *("swapaxes", "swapdims", "t", "t_", "t_copy", "take", "take_along_dim", "tensor_split"),
            *("tile", "transpose", "unbind", "unflatten", "unsqueeze", "unsqueeze_", "unsqueeze_copy"),
            *("view", "view_as", "view_copy", "vsplit"),
        )
    )
    | {torch.Tensor.__getitem__}
    | {getattr(torch.Tensor, name).__get__ for name in ("T", "mT", "H", "mH")}
)
"""Picks or reorders values: an encoding with one scale stays, one with several is lost."""

SCALES: dict[Function, bool] = {
    torch.mul: True,
    torch.Tensor.mul: True,
    torch.Tensor.__mul__: True,
    torch.Tensor.__rmul__: True,
    torch.div: False,
    torch.Tensor.div: False,
    torch.Tensor.__truediv__: False,
}
"""Multiplies (True) or divides (False) by a number: real values keep their codes, on a scaled grid."""
