"""flatten_inputs: let an exported graph take tensors where the model takes containers and objects of them."""

import builtins
import copy
import operator
from collections.abc import MutableMapping
from typing import Any

import torch
from torch import fx

from fxquant.graph.edit import remove_dead_code
from fxquant.graph.structure import has_parts, named_tensors, tensors_in


def flatten_inputs(gm: fx.GraphModule, inputs: dict[str, Any]) -> dict[str, Any]:
    """Give a graph an input for each tensor of its inputs, in place; numbers in containers become constants.

    An input that something reads as a whole stays what it is.

    Args:
        gm: The graph.
        inputs: The value of each of its inputs, in order; every tensor another object.

    Returns:
        The value of each input that the graph has now, in order.
    """
    flat: dict[str, Any] = {}
    for node in gm.graph.find_nodes(op="placeholder"):
        name = str(node.target)
        value = inputs[name]
        if isinstance(value, torch.Tensor) or not tensors_in(value) or not _is_taken_apart(node, value):
            flat[name] = value
            continue
        tensors = named_tensors({name: value})
        homes: dict[int, fx.Node] = {}
        for part, tensor in tensors.items():
            with gm.graph.inserting_before(node):
                homes[id(tensor)] = gm.graph.placeholder(part)
        _resolve(gm, node, value, homes)
        gm.graph.erase_node(node)
        flat |= tensors
    remove_dead_code(gm, gm.graph)
    gm.recompile()
    return flat


def with_distinct_tensors(value: Any, seen: set[int]) -> Any:
    """Return a value in which every tensor is another object: tracers take equal objects for one input.

    Args:
        value: A tensor, a container, an object that holds tensors, or anything else.
        seen: Identities of the tensors so far; grows.
    """
    if isinstance(value, torch.Tensor):
        is_new = id(value) not in seen
        seen.add(id(value))
        return value if is_new else value.clone()
    if isinstance(value, tuple):
        parts = [with_distinct_tensors(item, seen) for item in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if not has_parts(value):
        return value
    copied = copy.copy(value)
    if isinstance(copied, MutableMapping):
        for key, item in value.items():
            copied[key] = with_distinct_tensors(item, seen)
    elif isinstance(copied, list):
        copied[:] = [with_distinct_tensors(item, seen) for item in value]
    else:
        vars(copied).update({name: with_distinct_tensors(item, seen) for name, item in vars(value).items()})
    return copied


def _is_taken_apart(node: fx.Node, value: Any) -> bool:
    """Whether all that reads a container picks one of its parts."""
    return all(
        _is_pick(user, node) and (_is_leaf(part := _part(user, value)) or _is_taken_apart(user, part))
        for user in node.users
    )


def _resolve(gm: fx.GraphModule, node: fx.Node, value: Any, homes: dict[int, fx.Node]) -> None:
    """Replace the parts picked from a container by inputs and constants."""
    for user in list(node.users):
        part = _part(user, value)
        if isinstance(part, torch.Tensor):
            user.replace_all_uses_with(homes[id(part)])
        elif _is_leaf(part):
            for reader in list(user.users):
                reader.args = fx.map_arg(reader.args, lambda arg: part if arg is user else arg)  # noqa: B023  # used at once
                reader.kwargs = fx.map_arg(reader.kwargs, lambda arg: part if arg is user else arg)  # noqa: B023
        else:
            _resolve(gm, user, part, homes)
        gm.graph.erase_node(user)


def _is_pick(user: fx.Node, node: fx.Node) -> bool:
    is_access = user.target in (operator.getitem, builtins.getattr)
    return is_access and user.args[0] is node and not isinstance(user.args[1], fx.Node | slice)


def _part(user: fx.Node, value: Any) -> Any:
    key: Any = user.args[1]
    return getattr(value, key) if user.target is builtins.getattr else value[key]


def _is_leaf(value: Any) -> bool:
    return value is None or isinstance(value, torch.Tensor | int | float | str)
