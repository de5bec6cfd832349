"""interpreted: let the graphs that opaque layers call run through interpreters."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import fx

from fxquant.graph.capture_notes import graphs_of


@contextlib.contextmanager
def interpreted(
    gm: fx.GraphModule, interpreter_of: Callable[[fx.GraphModule], fx.Interpreter]
) -> Iterator[None]:
    """Run each graph below a captured model through an interpreter of its own, inside the context."""
    below = [graph for graph in graphs_of(gm) if graph is not gm]
    for graph in below:
        vars(graph)["forward"] = _runner(graph, interpreter_of(graph))
    try:
        yield
    finally:
        for graph in below:
            del vars(graph)["forward"]


def _runner(graph: fx.GraphModule, interpreter: fx.Interpreter) -> Callable[..., Any]:
    names = [str(node.target) for node in graph.graph.find_nodes(op="placeholder")]

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs
        return interpreter.run(*(given[name] for name in names), enable_io_processing=False)

    return forward
