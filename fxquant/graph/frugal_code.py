"""FrugalCode: how a prepared graph is written as Python, so that no memory and no pass is wasted.

The graph says what is computed; what is written here says when a tensor dies. Two kinds of calls change::

    conv_q = self.quantizers.conv(conv);  conv = None  # conv is read here for the last time
    view_q = self.quantizers.conv(view);  view = None  # view = conv_q.reshape(...): on the grid already

become::

    conv_q = overwritten(self.quantizers.conv, [conv, conv := None])
    view_q = settled(self.quantizers.conv, view);  view = None

So are modules that only compute what torch can compute in place, such as a ReLU. Both fall back to the call
itself where a gradient is wanted, a hook or a tracer looks on, or anybody else holds the tensor
(``graph.overwriting``). The graph, and all that is made of it, stays as it is.
"""

from typing import Any

from torch import fx
from torch.fx.graph import CodeGen, PythonCode

from fxquant.graph.aliases import writes_in_place
from fxquant.graph.capture_notes import graphs_of
from fxquant.graph.overwriting import can_overwrite, overwritten, settled
from fxquant.graph.values import op_of, quantizer_of
from fxquant.ops import OutputRange

_OPERAND = {overwritten: "[{1}, {1} := None]", settled: "{1}"}
_HELD = ("placeholder", "get_attr")  # what the caller or the model holds


class FrugalCode(CodeGen):
    """Lets calls of quantizers and activations overwrite operands that die; spares those that do nothing."""

    def _gen_python_code(self, nodes: Any, root_module: str, namespace: Any, **options: Any) -> PythonCode:
        graph = nodes.graph
        chosen = _chosen(graph)
        names = {
            function: namespace.create_name(function.__name__, function) for function in set(chosen.values())
        }
        calls = {
            node.name: (str(node.args[0]), f"{names[function]}({{0}}, {_OPERAND[function]})")
            for node, function in chosen.items()
        }
        before = self._body_transformer

        def rewritten(lines: list[str]) -> list[str]:
            lines = [_rewritten(line, calls) for line in lines]
            return lines if before is None else before(lines)

        self._body_transformer = rewritten
        try:
            code = super()._gen_python_code(nodes, root_module, namespace, **options)
        finally:
            self._body_transformer = before
        code.globals.update({name: function for function, name in names.items()})
        return code


def write_frugally(gm: fx.GraphModule) -> None:
    """Let a model's graphs be written in this way from now on, copies included."""
    for graph in graphs_of(gm):
        graph.graph.set_codegen(FrugalCode())
    gm.recompile()


def _chosen(graph: fx.Graph) -> dict[fx.Node, Any]:
    """Return the calls to write in another way, with the function that makes them."""
    gm = graph.owning_module
    if gm is None:
        return {}
    order = {node: index for index, node in enumerate(graph.nodes)}
    may_be_settled = not any(writes_in_place(gm, node) for node in graph.nodes)
    chosen: dict[fx.Node, Any] = {}
    for node in graph.find_nodes(op="call_module"):
        if not can_overwrite(gm.get_submodule(str(node.target))) or len(node.args) != 1 or node.kwargs:
            continue
        operand = node.args[0]
        if not isinstance(operand, fx.Node) or operand.op in _HELD:
            continue
        if may_be_settled and _is_settled(gm, node):
            chosen[node] = settled
        elif max(order[user] for user in operand.users) == order[node]:
            chosen[node] = overwritten
    return chosen


def _is_settled(gm: fx.GraphModule, call: fx.Node) -> bool:
    """Whether a quantizer reads values that it quantized itself, moved by functions in between.

    What it gives is then not fresh: nothing may read it that could write into it.
    """
    node = call.args[0]
    while isinstance(node, fx.Node) and node.target != call.target:
        op = op_of(gm, node)
        moves = op is not None and op.output is OutputRange.LIKE_INPUT and not op.is_cast
        may_scale = op is not None and op.is_noop_in_eval and not op.keeps_values  # as dropout in training
        if not moves or may_scale or node.op == "call_module" or not node.args:
            return False
        node = node.args[0]
    is_own = isinstance(node, fx.Node) and quantizer_of(gm, node) is not None
    return is_own and all(_is_known(gm, user) for user in call.users)


def _is_known(gm: fx.GraphModule, node: fx.Node) -> bool:
    return op_of(gm, node) is not None or quantizer_of(gm, node) is not None


def _rewritten(line: str, calls: dict[str, tuple[str, str]]) -> str:
    """Return a line of code with the call of a chosen node written in its way."""
    name, _, call = line.partition(" = ")
    if name not in calls:
        return line
    operand, form = calls[name]
    if not call.endswith(f"({operand})"):
        return line
    return f"{name} = {form.format(call[: -len(operand) - 2], operand)}"
