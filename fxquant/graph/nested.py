"""replaced, interpreted: let the graphs that opaque layers call run in another way."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import fx

from fxquant.graph.capture_notes import graphs_of


@contextlib.contextmanager
def replaced(runners: Mapping[fx.GraphModule, Callable[..., Any]]) -> Iterator[None]:
    """Run graphs in another way inside the context: each by a function of its inputs in order."""
    before = {graph: vars(graph).get("forward") for graph in runners}
    for graph, runner in runners.items():
        vars(graph)["forward"] = _forward(graph, runner)
    try:
        yield
    finally:
        for graph, forward in before.items():
            if forward is None:
                del vars(graph)["forward"]
            else:
                vars(graph)["forward"] = forward


def interpreted(
    gm: fx.GraphModule, interpreter_of: Callable[[fx.GraphModule], fx.Interpreter]
) -> contextlib.AbstractContextManager[None]:
    """Run each graph below a captured model through an interpreter of its own, inside the context."""
    below = [graph for graph in graphs_of(gm) if graph is not gm]
    return replaced({graph: _runner(interpreter_of(graph)) for graph in below})


def _runner(interpreter: fx.Interpreter) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        return interpreter.run(*args, enable_io_processing=False)

    return run


def _forward(graph: fx.GraphModule, runner: Callable[..., Any]) -> Callable[..., Any]:
    names = [str(node.target) for node in graph.graph.find_nodes(op="placeholder")]

    def forward(*args: Any, **kwargs: Any) -> Any:
        given = dict(zip(names, args, strict=False)) | kwargs
        return runner(*(given[name] for name in names))

    return forward
