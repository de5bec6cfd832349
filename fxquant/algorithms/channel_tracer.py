"""ChannelTracer: runs a model, and beside each tensor the variable that each of its elements belongs to.

An op that moves values is run on the numbers of the variables, which are exact in float64.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from fxquant.algorithms.channel_layers import ChannelLayer
from fxquant.calibration import CalibrationInterpreter
from fxquant.graph.values import activations_of, op_of, quantizer_of
from fxquant.ops import Op, OutputRange, Role, Scaling

OUTSIDE = "it is joined with what no layer gives"


class ChannelTracer(CalibrationInterpreter):
    """Follows the variables of the channels that layers give to the layers that read them.

    Args:
        gm: The prepared model.
        layers: The layers, by call.
        inside: The variables of the channels that each layer reads.
        outside: Those of the channels that it gives.
        unite: Is given variables, element by element, that are to be scaled alike.
        unclips: Whether an op with an upper end counts as the op without one.

    Attributes:
        fixed: Variables that cannot be scaled, each with the reason.
        unclipped: What passes through calls of ops with an upper end.
    """

    def __init__(
        self,
        gm: fx.GraphModule,
        layers: dict[fx.Node, ChannelLayer],
        inside: dict[ChannelLayer, torch.Tensor],
        outside: dict[ChannelLayer, torch.Tensor],
        unite: Callable[[torch.Tensor, torch.Tensor], None],
        unclips: bool,
    ) -> None:
        super().__init__(gm)
        self._layers, self._inside, self._outside, self._unite = layers, inside, outside, unite
        self._unclips = unclips
        self._ids: dict[fx.Node, Any] = {}
        self.fixed: list[tuple[torch.Tensor, str]] = []
        self.unclipped: dict[fx.Node, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        with torch.no_grad():
            value = super().run_node(n)
            self._ids[n] = self._follow(n, value)
        for done in self.user_to_last_uses.get(n, ()):
            self._ids.pop(done, None)
        return value

    def _follow(self, node: fx.Node, value: Any) -> Any:
        """Return the variables of what a node gives, or None where they are none."""
        if node in self._layers:
            return self._through_layer(node, self._layers[node], value)
        read = [source for source in node.all_input_nodes if self._ids.get(source) is not None]
        op = op_of(self._gm, node)
        quantizer = quantizer_of(self._gm, node)
        found: Any = None
        if not read:
            return None
        if quantizer is not None:
            found = self._ids[read[0]] if quantizer.is_overwrite_allowed() else None
        elif op is not None:
            found = self._through_op(node, op, value)
        if found is None and not _is_number(value):
            name = op.name if op is not None else "output" if node.op == "output" else str(node.target)
            if quantizer is not None:
                self._fix(read, "the range of an activation is fixed")
            else:
                self._fix(read, f"'{name}' does not let a factor for each channel pass")
        return found

    def _through_layer(self, node: fx.Node, layer: ChannelLayer, value: torch.Tensor) -> torch.Tensor:
        if not layer.is_gain:
            ids = self._ids.get(node.all_input_nodes[0])
            if ids is None:
                self._fix_ids(self._inside[layer], OUTSIDE)
            else:
                rows = torch.movedim(ids, layer.axis, -1).reshape(-1, layer.num_inputs)
                self._unite(rows, self._inside[layer].double().expand_as(rows))
        elif node.all_input_nodes:
            self._fix(node.all_input_nodes[:1], f"'{layer.name}' normalizes over channels")
        given = self._outside[layer].double()
        return given.reshape(-1, *[1] * (-layer.axis - 1)).expand(value.shape)

    def _through_op(self, node: fx.Node, op: Op, value: Any) -> Any:
        read = activations_of(self._gm, node, op)
        if op.scaling is Scaling.EACH or (op.unclipped is not None and self._unclips):
            ids: torch.Tensor | None = self._ids.get(read[0])
            if op.unclipped is not None and ids is not None:
                self.unclipped[node] = ids
            return ids
        if op.scaling is Scaling.SUM:
            return self._through_sum(node, read, value)
        if op.scaling is Scaling.PRODUCT:
            return self._through_product(node, read, value)
        if op.scaling is Scaling.AVERAGE:
            return self._through_average(node, read[0])
        moves = op.output in (OutputRange.LIKE_INPUT, OutputRange.SHARED)
        is_chosen = any(operand.role is Role.INDEX for operand in op.operands) or op.sorts
        return self._through_move(node, read) if moves and not is_chosen else None

    def _through_sum(self, node: fx.Node, read: list[fx.Node], value: torch.Tensor) -> torch.Tensor | None:
        """All operands are to be scaled alike; a number, or a tensor of no layer, cannot be scaled."""
        tensors = [arg for arg in (*node.args, *node.kwargs.values()) if isinstance(arg, fx.Node)]
        all_ids = [self._ids.get(source) for source in read]
        if len(node.args) + len(node.kwargs) != len(tensors) or any(ids is None for ids in all_ids):
            return None
        broadcast: list[torch.Tensor] = [ids.expand(value.shape) for ids in all_ids if ids is not None]
        first, *others = broadcast
        for other in others:
            self._unite(first, other)
        return first

    def _through_product(
        self, node: fx.Node, read: list[fx.Node], value: torch.Tensor
    ) -> torch.Tensor | None:
        """The factor of one operand passes, if the others have none."""
        scaled = [source for source in read if self._ids.get(source) is not None]
        if len(scaled) != 1:
            return None
        ids: torch.Tensor = self._ids[scaled[0]]
        return ids.expand(value.shape)

    def _through_average(self, node: fx.Node, source: fx.Node) -> torch.Tensor | None:
        """A sum of elements with fixed weights: all that it adds up must have one variable."""
        ids = self._ids.get(source)
        if ids is None:
            return None
        weights = self._run_on(node, {source: torch.ones_like(ids)})
        found = (self._run_on(node, {source: ids}) / weights).round()
        found = torch.where(weights == 0, 0, found)
        known = 1.0 + torch.rand(int(ids.max()) + 1, dtype=torch.float64)  # no mean hits one by chance
        seen = self._run_on(node, {source: known[ids.long()]})
        if not bool(((found >= 0) & (found < len(known))).all()):
            return None
        wanted = known[found.long()] * weights
        return found if torch.allclose(seen, wanted, rtol=1e-9, atol=1e-12) else None

    def _through_move(self, node: fx.Node, read: list[fx.Node]) -> Any:
        """Run an op that moves values on variables; one that picks values must pick among equal ones."""
        ids = {source: self._ids.get(source) for source in read}
        others = [source for source in node.all_input_nodes if source not in ids]
        if any(isinstance(self.env.get(source), torch.Tensor) for source in others):
            return None  # it may pick by what another tensor holds
        if len(read) == 1 and isinstance(ids[read[0]], tuple | list):  # takes one of several tensors
            return self._run_on(node, ids)
        shown = {
            source: torch.zeros(self.env[source].shape, dtype=torch.float64) if value is None else value
            for source, value in ids.items()
        }
        found = self._run_on(node, shown)
        opposite = self._run_on(node, {source: -value for source, value in shown.items()})
        same = pytree.tree_map(lambda one, other: bool((one == -other).all()), found, opposite)
        return found if all(pytree.tree_leaves(same)) else None

    def _run_on(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        before = self.env
        self.env = {**before, **values}
        try:
            return fx.Interpreter.run_node(self, node)
        finally:
            self.env = before

    def _fix(self, sources: list[fx.Node], reason: str) -> None:
        for source in sources:
            for ids in pytree.tree_leaves(self._ids.get(source)):
                self._fix_ids(ids, reason)

    def _fix_ids(self, ids: torch.Tensor | None, reason: str) -> None:
        if ids is not None:
            self.fixed.append((torch.unique(ids).long(), reason))


def _is_number(value: Any) -> bool:
    """Whether a value is a number or a shape, which no factor changes."""
    return all(isinstance(leaf, int | float | bool | str | type(None)) for leaf in pytree.tree_leaves(value))
