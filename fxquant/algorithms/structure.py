"""keep_structure: let an error in a run undo what is done to the graph, and what is added to the model."""

import copy

from torch import fx

from fxquant.algorithms.context import Context
from fxquant.graph import Stage, get_record, graphs_of, set_record, write_frugally


def keep_structure(gm: fx.GraphModule, context: Context) -> None:
    """Keep copies of a prepared model's graphs as they are now, and bring them back if the run fails.

    Modules and buffers added by then are taken away again; those removed are not brought back.

    Args:
        gm: The prepared model.
        context: The run.
    """
    record = get_record(gm, Stage.PREPARED)
    before = [(graph, copy.deepcopy(graph.graph)) for graph in graphs_of(gm)]
    buffers, modules = set(gm._buffers), {name for name, _ in gm.named_modules()}

    def undo() -> None:
        for graph, kept in before:
            graph.graph = kept
        for name in set(gm._buffers) - buffers:
            del gm._buffers[name]
        for name in {name for name, _ in gm.named_modules()} - modules:
            gm.delete_submodule(name)
        set_record(gm, record)
        write_frugally(gm)

    context.on_error(undo)


def restructured(gm: fx.GraphModule) -> None:
    """Let a prepared model run, and remember, the graphs that it has now."""
    record = get_record(gm, Stage.PREPARED)
    for graph in graphs_of(gm):
        graph.graph.lint()
        graph.recompile()
    set_record(gm, record)
    write_frugally(gm)
