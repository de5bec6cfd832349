"""CanonicalizeWrites: let a write into a part of a tensor give a new tensor, so that its value never changes.

Before::

    part = getitem(x, 0)
    add_ = .add_(part, 1)                # changes x
    setitem_ = setitem_(x, 1, y)         # changes x
    return x

After::

    part = getitem(x, 0)
    add_ = .add(part, 1)
    with_item = with_item(x, 0, add_)
    with_item_1 = with_item(with_item, 1, y)
    return with_item_1
"""

import operator
from dataclasses import dataclass

from torch import fx

from fxquant.graph import Report
from fxquant.graph.aliases import Aliases, make_out_of_place, out_of_place, writes_in_place, written_operand
from fxquant.graph.annotations import LAYER, RESULT, STOPPED, layer_of
from fxquant.graph.recordable import setitem_, with_item
from fxquant.graph.values import is_constant, returns
from fxquant.ops import Returns
from fxquant.passes.base import Changes, Pass


@dataclass(frozen=True)
class CanonicalizeWrites(Pass):
    """Let a write into a part of a tensor give a new tensor."""

    name = "canonicalize-writes"
    changes = Changes.STRUCTURE

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        has_changed = False
        states: dict[fx.Node, fx.Node] = {}  # what now stands for a buffer or input: the buffer or input
        for node in list(gm.graph.nodes):
            if node.target is not setitem_ and (node.op == "call_module" or not writes_in_place(gm, node)):
                continue
            written = written_operand(node)
            if written is None or _is_kept(node):
                continue
            if node.target is setitem_ and _writes_again(gm, node):
                gm.graph.erase_node(node)
                has_changed = True
                continue
            order = {other: index for index, other in enumerate(gm.graph.nodes)}
            if node.target is not setitem_ and not _concerns_parts(gm, node, written, order, states):
                continue  # a plain in-place op, which `canonicalize` takes
            reason = _refusal(gm, node, written, order)
            if reason:
                self.declined(gm, node, report, reason)
                continue
            _rewrite(gm, node, written, order, states)
            self.applied(gm, written, report, "the write gives a new tensor")
            has_changed = True
        _keep(gm, states)
        return has_changed


def _concerns_parts(
    gm: fx.GraphModule,
    node: fx.Node,
    written: fx.Node,
    order: dict[fx.Node, int],
    states: dict[fx.Node, fx.Node],
) -> bool:
    """Whether an in-place op writes into a part, a whole that has parts, a buffer or an input."""
    has_parts = _is_part(gm, written) or bool(_parts(gm, written, order[node], order))
    return has_parts or _is_state(written) or written in states


def _rewrite(
    gm: fx.GraphModule,
    node: fx.Node,
    written: fx.Node,
    order: dict[fx.Node, int],
    states: dict[fx.Node, fx.Node],
) -> None:
    """Write a new tensor where a call changed one, and new ones for all that it is a part of."""
    when = order[node]
    if node.target is setitem_:
        new = _with_item(gm, node, written, node.args[1], node.args[2])
        gm.graph.erase_node(node)
    else:
        node.replace_all_uses_with(written)  # the call gives what it wrote into
        new = make_out_of_place(gm, node)
    while _is_part(gm, written):
        written, index = _base(written), written.args[1]
        new = _with_item(gm, new, written, index, new)
    _read_later(gm, written, new, when, order)
    if _is_state(written) or written in states:
        states[new] = states.pop(written, written)


def _keep(gm: fx.GraphModule, states: dict[fx.Node, fx.Node]) -> None:
    """Let buffers and inputs hold in the end what was written into them."""
    output = next(iter(gm.graph.find_nodes(op="output")))
    for latest, state in states.items():
        with gm.graph.inserting_before(output):
            kept = gm.graph.call_method("copy_", (state, latest))
        kept.meta[LAYER] = layer_of(latest)


def _is_kept(node: fx.Node) -> bool:
    """Whether a call is one that this pass makes: what a buffer or input holds in the end."""
    return node.target == "copy_" and not node.users and _is_state(node.args[0]) and _is_last(node)


def _is_last(node: fx.Node) -> bool:
    """Whether nothing reads a buffer or input after a call."""
    following = node.next
    while following.op not in ("output", "root"):
        if node.args[0] in following.all_input_nodes:
            return False
        following = following.next
    return node.args[0] not in following.all_input_nodes


def _is_state(node: object) -> bool:
    return isinstance(node, fx.Node) and (is_constant(node) or node.op == "placeholder")


def _read_later(
    gm: fx.GraphModule, old: fx.Node, new: fx.Node, when: int, order: dict[fx.Node, int]
) -> fx.Node:
    """Let what reads a tensor after some time read a new one, through its parts too; return the last node."""
    last = new
    for part in _parts(gm, old, when, order):
        with gm.graph.inserting_after(last):
            picked = gm.graph.call_function(operator.getitem, (new, part.args[1]))
        picked.meta.update(part.meta)
        last = _read_later(gm, part, picked, when, order)
    for user in list(old.users):
        if order.get(user, -1) > when:
            user.replace_input_with(old, new)
    return last


def _parts(gm: fx.GraphModule, base: fx.Node, when: int, order: dict[fx.Node, int]) -> list[fx.Node]:
    """Return the parts of a tensor that were picked before some time and are read after it."""
    picked = [user for user in base.users if _is_part(gm, user) and order.get(user, when) < when]
    return [
        part
        for part in picked
        if any(order.get(user, -1) > when for user in part.users) or _parts(gm, part, when, order)
    ]


def _with_item(gm: fx.GraphModule, after: fx.Node, base: fx.Node, index: object, value: object) -> fx.Node:
    with gm.graph.inserting_after(after):
        made = gm.graph.call_function(with_item, (base, index, value))  # type: ignore[arg-type]  # fx's arguments
    made.meta.update({key: base.meta[key] for key in (RESULT, STOPPED) if key in base.meta})
    made.meta[LAYER] = layer_of(after)
    return made


def _refusal(gm: fx.GraphModule, node: fx.Node, written: fx.Node, order: dict[fx.Node, int]) -> str:
    """Return why a write has to stay; empty if it can give a new tensor."""
    if node.target is not setitem_ and out_of_place(node) is None:
        return "it has no out-of-place form"
    if node.target is setitem_ and node.users:
        return "what it gives is read"
    aliases, base = Aliases(gm), written
    while _is_part(gm, base):
        base = _base(base)
    seen, waiting = {base}, [base]
    while waiting:
        picked = [user for user in waiting.pop().users if _is_part(gm, user) and user not in seen]
        seen.update(picked)
        waiting.extend(picked)
    others = [other for other in aliases.of(written) if order[other] < order[node] and other not in seen]
    if any(order[user] > order[node] for other in others for user in other.users):
        return "it writes into a tensor that is also seen through a view"
    return ""


def _writes_again(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether an item is set to what it is, as ``x[i] += y`` does after it added in place."""
    base, index, value = node.args
    is_part = isinstance(value, fx.Node) and _is_part(gm, value) and not node.users
    return is_part and value.args[0] is base and value.args[1] == index  # type: ignore[union-attr]  # a node, then


def _base(part: fx.Node) -> fx.Node:
    base = part.args[0]
    assert isinstance(base, fx.Node)
    return base


def _is_part(gm: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node picks a part of a tensor by numbers and slices, which shares the tensor's memory."""
    if node.target is not operator.getitem or not isinstance(node.args[0], fx.Node):
        return False
    if returns(gm, node.args[0]) is not Returns.TENSOR:
        return False
    index = node.args[1]
    return all(_is_basic(gm, item) for item in (index if isinstance(index, tuple) else (index,)))


def _is_basic(gm: fx.GraphModule, item: object) -> bool:
    if isinstance(item, fx.Node):
        return returns(gm, item) is Returns.VALUE
    if isinstance(item, slice):
        return all(_is_basic(gm, part) for part in (item.start, item.stop, item.step))
    return item is None or item is Ellipsis or (isinstance(item, int) and not isinstance(item, bool))
