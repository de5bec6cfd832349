"""Pass: the contract of every rewrite."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar, final

from torch import fx

from fxquant.graph import Report, Site, verify_graph
from fxquant.graph.annotations import layer_of
from fxquant.graph.edit import remove_dead_code
from fxquant.graph.names import node_name
from fxquant.graph.values import op_of


class Changes(Enum):
    """What a pass may change."""

    NOTHING = "notes on nodes"
    STRUCTURE = "structure"
    VALUES = "values"
    BOTH = "structure and values"


@dataclass(frozen=True)
class Pass(ABC):
    """One rewrite of a graph, in place.

    A subclass is a frozen dataclass whose fields are its options. It holds no state, never runs the model,
    and running it twice equals running it once. Every candidate site ends up in the report, applied or
    declined with a reason.
    """

    name: ClassVar[str]
    changes: ClassVar[Changes]
    after: ClassVar[tuple[str, ...]] = ()

    @final
    def __call__(self, gm: fx.GraphModule, report: Report) -> bool:
        """Run the pass; return whether it changed anything.

        Raises:
            GraphError: If the graph is not well formed before or after.
        """
        verify_graph(gm)
        has_changed = self.rewrite(gm, report)
        if has_changed:
            verify_graph(gm)
            remove_dead_code(gm, gm.graph)
            gm.recompile()
        return has_changed

    @abstractmethod
    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        """Rewrite the graph in place; return whether anything changed."""

    def applied(self, gm: fx.GraphModule, node: fx.Node, report: Report, reason: str) -> None:
        """Report a site as changed."""
        report.sites.append(self._site(gm, node, applied=True, reason=reason))

    def declined(self, gm: fx.GraphModule, node: fx.Node, report: Report, reason: str) -> None:
        """Report a site as left alone."""
        report.sites.append(self._site(gm, node, applied=False, reason=reason))

    def _site(self, gm: fx.GraphModule, node: fx.Node, *, applied: bool, reason: str) -> Site:
        op = op_of(gm, node)
        name = op.name if op else getattr(node.target, "__name__", str(node.target))
        if op is None and node.op == "call_module":
            name = type(gm.get_submodule(str(node.target))).__name__
        return Site(
            rewrite=self.name,
            node=node_name(gm, node),
            layer=layer_of(node),
            op=name,
            applied=applied,
            reason=reason,
        )
