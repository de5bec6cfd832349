"""Canonicalize: turn in-place ops into their out-of-place form.

Before::

    relu = ReLU[relu](x)          # inplace=True
    add_ = .add_(relu, y)
    return relu

After::

    relu = ReLU[relu](x)          # inplace=False
    add_ = .add(relu, y)
    return add_
"""

from dataclasses import dataclass

from torch import fx

from fxquant.graph import Report
from fxquant.graph.values import is_call, op_of
from fxquant.ops import OutputRange, op_of_method
from fxquant.passes.base import Changes, Pass


@dataclass(frozen=True)
class Canonicalize(Pass):
    """Turn in-place ops into their out-of-place form, so that a node's value never changes."""

    name = "canonicalize"
    changes = Changes.STRUCTURE

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        order = {node: index for index, node in enumerate(gm.graph.nodes)}
        has_changed = False
        for node in gm.graph.nodes:
            if not is_call(node) or not _is_in_place(gm, node):
                continue
            written = node.args[0] if node.args else None
            if not isinstance(written, fx.Node) or _has_live_alias(gm, written, node, order):
                self.declined(gm, node, report, "it writes into a tensor that is also seen through a view")
                continue
            for user in list(written.users):
                if order[user] > order[node]:
                    user.replace_input_with(written, node)
            _make_out_of_place(gm, node)
            self.applied(gm, node, report, "made out of place")
            has_changed = True
        return has_changed


def _is_in_place(gm: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        return bool(getattr(gm.get_submodule(str(node.target)), "inplace", False))
    if node.op == "call_method":
        return _out_of_place_method(str(node.target)) is not None
    return bool(node.kwargs.get("inplace", False))


def _out_of_place_method(method: str) -> str | None:
    plain = method[:-1]
    is_known = method.endswith("_") and not method.endswith("__") and op_of_method(plain) is not None
    return plain if is_known else None


def _make_out_of_place(gm: fx.GraphModule, node: fx.Node) -> None:
    if node.op == "call_module":
        gm.get_submodule(str(node.target)).inplace = False  # type: ignore[assignment]  # a plain flag of torch.nn
    elif node.op == "call_method":
        node.target = str(node.target)[:-1]
    else:
        node.update_kwarg("inplace", False)


def _has_live_alias(gm: fx.GraphModule, written: fx.Node, at: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Whether a view of the written tensor, or the tensor it is a view of, is read after the write."""

    def is_view(node: fx.Node) -> bool:
        op = op_of(gm, node)
        return op is not None and op.output is OutputRange.LIKE_INPUT

    def is_read_later(node: fx.Node) -> bool:
        return any(order[user] > order[at] for user in node.users)

    views = [user for user in written.users if order[user] < order[at] and is_view(user)]
    bases = written.all_input_nodes if is_view(written) else []
    return any(is_read_later(node) for node in [*views, *bases])
