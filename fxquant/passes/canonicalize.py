"""Canonicalize: one form for each call: out of place, and layers called by position.

Before::

    relu = ReLU[relu](input=x)    # inplace=True
    add_ = .add_(relu, y)
    return relu

After::

    relu = ReLU[relu](x)          # inplace=False
    add_ = .add(relu, y)
    return add_
"""

import inspect
from dataclasses import dataclass

import torch
from torch import fx

from fxquant.graph import Report, capture_notes
from fxquant.graph.aliases import Aliases, make_out_of_place, out_of_place, writes_in_place, written_operand
from fxquant.graph.recordable import first_sorted
from fxquant.graph.values import arguments_by_name, is_constant, op_of, returns
from fxquant.ops import Returns, op_of_module
from fxquant.passes.base import Changes, Pass


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Turn in-place ops into their out-of-place form, so that a node's value never changes.

    Layers called by keyword are called by position, ``view`` is ``reshape``, and sorts keep the order of
    equals, as ONNX's do.
    """

    name = "canonicalize"
    changes = Changes.STRUCTURE
    after = ("canonicalize-writes",)

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        aliases, notes = Aliases(gm), capture_notes(gm)
        is_inner = notes is not None and bool(notes.path)  # what calls the graph may read the input later
        order = {node: index for index, node in enumerate(gm.graph.nodes)}
        moved = [_call_by_position(gm, node) or _sort_stably(gm, node) for node in gm.graph.nodes]
        has_changed = any(moved)
        # decided before any is changed: a module's flag serves all its calls
        refusals = {
            node: _refusal(node, aliases, order, is_inner=is_inner)
            for node in gm.graph.nodes
            if writes_in_place(gm, node)
        }
        modules = {
            node: id(gm.get_submodule(str(node.target))) for node in refusals if node.op == "call_module"
        }
        refused = {modules[node] for node, reason in refusals.items() if reason and node in modules}
        for node, reason in refusals.items():
            if not reason and modules.get(node) in refused:
                reason = "another call of the same layer has to stay in place"
            if reason:
                self.declined(gm, node, report, reason)
                continue
            if returns(gm, node) is not Returns.VALUE:  # a number is never written into
                for user in list(node.all_input_nodes[0].users):
                    if order[user] > order[node]:
                        user.replace_input_with(node.all_input_nodes[0], node)
            make_out_of_place(gm, node)
            self.applied(gm, node, report, "made out of place")
            has_changed = True
        aliases = Aliases(gm)
        viewed = [_reshape_view(node) for node in gm.graph.nodes if not aliases.is_written(node)]
        return has_changed or any(viewed)


def _refusal(node: fx.Node, aliases: Aliases, order: dict[fx.Node, int], *, is_inner: bool) -> str:
    """Return why an in-place call has to stay; empty if it can be replaced."""
    written = written_operand(node)
    if written is None:
        return "it does not name what it writes into by position"
    if node.op != "call_module" and out_of_place(node) is None:
        return "it has no out-of-place form"
    root = aliases.root(written)
    if is_constant(root):
        return "it writes into a buffer of the model"
    if root.op == "placeholder" and (written is root or is_inner) and node.op != "call_module":
        return "it writes into an input"  # through a view, a model's own input may keep its value
    # a view made later reads what the call gives
    before = [other for other in aliases.of(written) if order[other] < order[node]]
    others = [other for other in before if other is not written]
    if any(order[user] > order[node] for other in others for user in other.users):
        return "it writes into a tensor that is also seen through a view"
    return ""


def _reshape_view(node: fx.Node) -> bool:
    """Turn ``view`` to other sizes into ``reshape``, which does not ask for a layout in memory."""
    sizes = node.args[1:]
    if node.op != "call_method" or node.target != "view" or any(isinstance(s, torch.dtype) for s in sizes):
        return False
    if node.kwargs:
        return False
    node.target = "reshape"
    return True


def _call_by_position(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Pass the keyword arguments of a layer of the op table by position, where they come first."""
    if node.op != "call_module" or not node.kwargs:
        return False
    module = gm.get_submodule(str(node.target))
    if op_of_module(module) is None:
        return False
    bound = inspect.signature(module.forward).bind(*node.args, **node.kwargs)
    has_changed = len(bound.args) > len(node.args)
    node.args, node.kwargs = bound.args, bound.kwargs
    return has_changed


def _sort_stably(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Let a sort keep the order of equals; torch takes that option together with keywords only."""
    op = op_of(gm, node)
    is_stable = node.target is first_sorted or node.kwargs.get("stable") is True
    if op is None or not op.sorts or node.op == "call_module" or is_stable:
        return False
    given = arguments_by_name(node, op.sorts)
    if "k" in op.sorts:
        node.op, node.target = "call_function", first_sorted
        node.args = (given["input"], given["k"], given.get("dim", -1), given.get("largest", True))
        node.kwargs = {}
        return True
    node.args = (given.pop(op.sorts[0]),)
    node.kwargs = given | {"stable": True}
    return True
