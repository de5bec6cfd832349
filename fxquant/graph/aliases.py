"""Aliases: which nodes may give the same memory, and which of it is written in place."""

import operator
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph.annotations import result_of
from fxquant.graph.recordable import with_item
from fxquant.graph.values import is_call, op_of
from fxquant.ops import OutputRange

_IN_PLACE_OPERATORS = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    operator.imatmul: operator.matmul,
}
_KEYWORDS = (operator.and_, operator.or_, operator.not_, operator.is_)  # named so as not to be keywords
_FILLING = ("copy_", "fill_", "zero_")  # methods that put other values into all of a tensor


class Aliases:
    """The nodes of a graph, grouped by the tensor whose memory they may share.

    An op whose output lies on the grid of its input may be a view of it, and so may one that the op table
    does not know.
    """

    def __init__(self, gm: fx.GraphModule) -> None:
        self._root: dict[fx.Node, fx.Node] = {}
        self._members: dict[fx.Node, list[fx.Node]] = {}
        self._written: set[fx.Node] = set()
        order = {node: index for index, node in enumerate(gm.graph.nodes)}
        for node in gm.graph.nodes:
            op = op_of(gm, node)
            may_be_view = is_call(node) if op is None else op.output is OutputRange.LIKE_INPUT
            root = self._root[node.all_input_nodes[0]] if may_be_view and node.all_input_nodes else node
            written = written_operand(node) if writes_in_place(gm, node) else None
            if written is not None:
                root = self._root[written]
                members = self._members[root]
                if node.users or any(
                    order[user] > order[node] for member in members for user in member.users
                ):
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
        """Whether some op writes in place into the memory a node gives, and something reads it later."""
        return self._root[node] in self._written


def writes_in_place(gm: nn.Module, node: fx.Node) -> bool:
    """Whether a call writes into its first operand, or into ``out``."""
    if node.op == "call_module":
        return bool(getattr(gm.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        return _has_in_place_name(str(node.target))
    if node.op != "call_function":
        return False
    is_operator = node.target in _IN_PLACE_OPERATORS or node.target is operator.setitem
    has_flag = node.kwargs.get("inplace") is True or isinstance(node.kwargs.get("out"), fx.Node)
    has_name = _has_in_place_name(_function_name(node)) and node.target not in _KEYWORDS
    return is_operator or has_flag or has_name


def written_operand(node: fx.Node) -> fx.Node | None:
    """Return what an in-place call writes into; None where it is not given by position or as ``out``."""
    written = node.kwargs.get("out", node.args[0] if node.args else None)
    return written if isinstance(written, fx.Node) else None


def out_of_place(node: fx.Node) -> object | None:
    """Return the target that computes what an in-place call does into a new tensor; None if there is none."""
    if node.op == "call_method" and node.target in _FILLING:
        return with_item
    if node.op == "call_method":
        plain = str(node.target)[:-1]
        return plain if callable(getattr(torch.Tensor, plain, None)) else None
    if node.target in _IN_PLACE_OPERATORS:
        return _IN_PLACE_OPERATORS[node.target]
    if _has_in_place_name(_function_name(node)):
        plain = _function_name(node)[:-1]
        return getattr(torch, plain, None) or getattr(F, plain, None)
    has_none = node.target is operator.setitem or "out" in node.kwargs
    return None if has_none else node.target


def make_out_of_place(gm: fx.GraphModule, node: fx.Node) -> fx.Node:
    """Let an in-place call that has an out-of-place form compute a new tensor; return what gives it.

    A tensor keeps its type when it is written into; a new one would take that of the operands together.
    """
    if node.op == "call_module":
        gm.get_submodule(str(node.target)).inplace = False  # type: ignore[assignment]  # a plain flag of torch.nn
        return node
    target, op = out_of_place(node), op_of(gm, node)
    assert target is not None
    written = result_of(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
    types = {result.dtype for source in node.all_input_nodes if (result := result_of(source)) is not None}
    if target is with_item:
        everything: Any = Ellipsis
        node.op, node.args = "call_function", (node.args[0], everything, *(node.args[1:2] or (0,)))
    node.target = target  # type: ignore[assignment]  # what fx calls
    if "inplace" in node.kwargs:
        node.update_kwarg("inplace", False)
    gives_truth = op is not None and op.output is OutputRange.FLOAT
    if written is None or target is with_item or not (len(types) > 1 or gives_truth):
        return node
    with gm.graph.inserting_after(node):
        cast = gm.graph.call_method("to", (node, written.dtype))
    cast.meta.update(node.meta)
    node.replace_all_uses_with(cast, lambda user: user is not cast)
    return cast


def _function_name(node: fx.Node) -> str:
    return str(getattr(node.target, "__name__", ""))


def _has_in_place_name(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")
