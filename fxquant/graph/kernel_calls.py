"""Calls computed in a runtime's arithmetic: put into a graph, and taken out again for export."""

import copy
from typing import Any

from torch import fx, nn

from fxquant.arithmetic import Formula, KernelCall
from fxquant.graph.annotations import layer_of
from fxquant.graph.capture_notes import graphs_of
from fxquant.graph.edit import add_module, set_module
from fxquant.quantization import QuantizerBase


def swap_call(
    gm: fx.GraphModule,
    node: fx.Node,
    op: str,
    formula: Formula,
    inputs: tuple[QuantizerBase, ...],
    output: QuantizerBase | None,
) -> None:
    """Let a node compute its call by a formula; its name, operands and notes stay.

    A module's call takes its place, or a path of its own where another call has it already.
    """
    target: Any = node.target
    if node.op != "call_module":
        kernel = KernelCall(target, formula, inputs, output, target)
        node.target = add_module(gm, f"{layer_of(node)}.{op}".lstrip("."), kernel)
        node.op = "call_module"
        return
    kernel = KernelCall(gm.get_submodule(target), formula, inputs, output, target)
    if len(gm.graph.find_nodes(op="call_module", target=target)) > 1:
        node.target = add_module(gm, target, kernel)
    else:
        set_module(gm, target, kernel)


def original_calls(gm: fx.GraphModule) -> fx.GraphModule:
    """Return a copy of a model that calls what it called before ``swap_call``; if nothing did, the model."""
    if not any(isinstance(module, KernelCall) for module in gm.modules()):
        return gm
    gm = copy.deepcopy(gm)
    for graph in graphs_of(gm):
        for node in graph.graph.find_nodes(op="call_module"):
            kernel = graph.get_submodule(str(node.target))
            if not isinstance(kernel, KernelCall):
                continue
            node.target = kernel.target
            if isinstance(kernel.called, nn.Module):
                graph.add_submodule(kernel.target, kernel.called)
            else:
                node.op = "call_method" if isinstance(kernel.called, str) else "call_function"
        graph.recompile()
    return gm
