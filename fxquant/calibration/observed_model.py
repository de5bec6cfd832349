"""ObservedModel: runs a prepared model in float, by code of its own, and shows what quantizers see."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import fx

from fxquant.calibration.sites import ActivationSite
from fxquant.graph import graphs_of
from fxquant.graph.nested import replaced
from fxquant.graph.pausing import collections_paused
from fxquant.graph.values import attribute, is_quantizer
from fxquant.nn import QuantizationMixin

Show = Callable[[ActivationSite, object], None]


class ObservedModel:
    """A prepared model whose quantizers pass on what they are given.

    Its code is generated anew from the graphs, with a call of ``show`` where a quantizer is to see a tensor,
    and nothing at all in place of other quantizers. It shares the modules. An interpreter of the graph costs
    some 5 % of the forward of a small transformer more. Values are freed after their last use.

    Args:
        gm: The prepared model.
        sites: The calls of quantizers to show.
        show: Is given the site and its tensor.
    """

    def __init__(self, gm: fx.GraphModule, sites: Iterable[ActivationSite], show: Show) -> None:
        self._gm = gm
        by_node = {site.node: site for site in sites}
        with collections_paused():
            self._twins = {graph: _twin(graph, by_node, show) for graph in graphs_of(gm)}

    @contextlib.contextmanager
    def running(self) -> Iterator[Callable[..., Any]]:
        """Give the model as a function of its inputs in order; inside the context its layers run in float."""
        with contextlib.ExitStack() as stack:
            for module in self._gm.modules():
                if isinstance(module, QuantizationMixin):
                    stack.enter_context(module.in_float())
            below = {graph: twin for graph, twin in self._twins.items() if graph is not self._gm}
            stack.enter_context(replaced(below))
            stack.enter_context(torch.no_grad())
            yield self._twins[self._gm].forward


def _twin(gm: fx.GraphModule, sites: dict[fx.Node, ActivationSite], show: Show) -> fx.GraphModule:
    """Return the graph with quantizers replaced."""
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    graph.output(graph.graph_copy(gm.graph, copies))
    for node, copy in copies.items():
        if not is_quantizer(gm, node):
            continue
        if node in sites:
            copy.op, copy.target = "call_function", _eye(sites[node], show)
        else:
            copy.replace_all_uses_with(copy.args[0])
            graph.erase_node(copy)
    held = {
        str(node.target): _held(gm, node) for node in graph.nodes if node.op in ("call_module", "get_attr")
    }
    return fx.GraphModule(held, graph)


def _held(gm: fx.GraphModule, node: fx.Node) -> Any:
    return gm.get_submodule(str(node.target)) if node.op == "call_module" else attribute(gm, node)


def _eye(site: ActivationSite, show: Show) -> Callable[[object], object]:
    def eye(value: object) -> object:
        show(site, value)
        return value

    return eye
