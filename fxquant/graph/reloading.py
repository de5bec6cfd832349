"""Reloading: what traces a recorded graph again when a pickle of it is loaded."""

from typing import Any

from torch import fx

from fxquant.graph.frugal_code import FrugalCode


class Reloading(fx.Tracer):
    """Traces a recorded graph again when a pickle of it is loaded: buffers are nodes too."""

    proxy_buffer_attributes = True

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        graph = super().trace(root, concrete_args)
        graph.set_codegen(FrugalCode())
        return graph
