"""KeepFloat: leave chosen activations in float, where 8 bits cost more than they gain."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import ClassVar

from torch import fx

from fxquant.algorithms.base import Algorithm
from fxquant.algorithms.context import Context
from fxquant.algorithms.structure import keep_structure, restructured
from fxquant.calibration.sites import ActivationSite, activation_sites
from fxquant.errors import OptionError
from fxquant.graph import graphs_of
from fxquant.graph.edit import bypass


@dataclass(frozen=True, kw_only=True)
class KeepFloat(Algorithm):
    """Take the quantizers of some activations out; what reads them reads float tensors.

    A runtime computes an op in integers where what it reads is quantized, and in float elsewhere.

    Attributes:
        tensors: Names of tensors, or patterns such as ``encoder.layer.*.output.add``, with "|" between them.
    """

    tensors: str = ""

    name = "keep-float"
    needs_batches: ClassVar[bool] = False

    def run(self, gm: fx.GraphModule, context: Context) -> None:
        sites = activation_sites(gm)
        chosen = {site.node: site for site in sites if self._fits(site)}
        for pattern in self._patterns():
            if not any(fnmatchcase(site.name, pattern) for site in sites):
                raise OptionError(
                    f"No quantized tensor is named '{pattern}'.",
                    remedy="Names are those of fxquant.Statistics and of encodings files.",
                )
        keep_structure(gm, context)
        for graph in graphs_of(gm):
            for node in list(graph.graph.nodes):
                if node in chosen:
                    bypass(graph, node, node.all_input_nodes[0])
                    context.applied(chosen[node].name, "it stays float")
        restructured(gm)

    def _patterns(self) -> list[str]:
        return [pattern for pattern in self.tensors.split("|") if pattern]

    def _fits(self, site: ActivationSite) -> bool:
        return any(fnmatchcase(site.name, pattern) for pattern in self._patterns())
