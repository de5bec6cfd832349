"""Aliases: which nodes may give the same memory, and which of it is written in place."""

import operator

import torch
from torch import fx
from torch.nn import functional as F

from fxquant.graph.values import op_of
from fxquant.ops import OutputRange

_IN_PLACE_OPERATORS = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.imatmul: operator.matmul,
}


class Aliases:
    """The nodes of a graph, grouped by the tensor whose memory they may share.

    An op whose output lies on the grid of its input may be a view of it.
    """

    def __init__(self, gm: fx.GraphModule) -> None:
        self._root: dict[fx.Node, fx.Node] = {}
        self._members: dict[fx.Node, list[fx.Node]] = {}
        self._written: set[fx.Node] = set()
        for node in gm.graph.nodes:
            op = op_of(gm, node)
            is_view = op is not None and op.output is OutputRange.LIKE_INPUT and bool(node.all_input_nodes)
            root = self._root[node.all_input_nodes[0]] if is_view else node
            if writes_in_place(gm, node) and node.all_input_nodes:
                root = self._root[node.all_input_nodes[0]]
                self._written.add(root)
            self._root[node] = root
            self._members.setdefault(root, []).append(node)

    def root(self, node: fx.Node) -> fx.Node:
        """Return the node that made the memory a node gives."""
        return self._root[node]

    def of(self, node: fx.Node) -> list[fx.Node]:
        """Return all nodes that may share memory with a node, itself included."""
        return self._members[self._root[node]]

    def is_written(self, node: fx.Node) -> bool:
        """Whether some op writes in place into the memory a node gives."""
        return self._root[node] in self._written


def writes_in_place(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a call writes into its first operand."""
    if node.op == "call_module":
        return bool(getattr(gm.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        return _has_in_place_name(str(node.target))
    if node.op != "call_function":
        return False
    is_operator = node.target in _IN_PLACE_OPERATORS or node.target is operator.setitem
    return is_operator or node.kwargs.get("inplace") is True or _has_in_place_name(_function_name(node))


def out_of_place(node: fx.Node) -> object | None:
    """Return the target that computes what an in-place call does into a new tensor; None if there is none."""
    if node.op == "call_method":
        plain = str(node.target)[:-1]
        return plain if hasattr(torch.Tensor, plain) else None
    if node.target in _IN_PLACE_OPERATORS:
        return _IN_PLACE_OPERATORS[node.target]
    if _has_in_place_name(_function_name(node)):
        plain = _function_name(node)[:-1]
        return getattr(torch, plain, None) or getattr(F, plain, None)
    return None if node.target is operator.setitem else node.target


def _function_name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", ""))


def _has_in_place_name(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")
