"""ParityInterpreter: runs a simulation and compares its codes with a runtime's."""

from typing import Any

import numpy as np
from torch import fx

from fxquant.analysis.code_numbers import code_numbers, numbers_of_runtime, real_values
from fxquant.analysis.output_parity import check_sizes
from fxquant.analysis.parity_report import TensorParity


class ParityInterpreter(fx.Interpreter):
    """Runs the simulation and compares the codes at each quantizer with the runtime's.

    Args:
        gm: The quantized model, or a graph in it.
        sites: The quantizers to compare.
        random: The quantizers of random tensors, which take the runtime's values.
        codes: What the runtime gave, by name.
        feeds_runtime: Whether what reads a quantizer gets the runtime's values, not the simulation's.
    """

    def __init__(
        self,
        gm: fx.GraphModule,
        sites: dict[fx.Node, TensorParity],
        random: dict[fx.Node, TensorParity],
        codes: dict[str, np.ndarray],
        *,
        feeds_runtime: bool,
    ) -> None:
        super().__init__(gm)
        self.extra_traceback = False  # fx would write into the messages of errors
        self._sites, self._random = sites, random
        self._codes = codes
        self._feeds_runtime = feeds_runtime

    def below(self, graph: fx.GraphModule) -> "ParityInterpreter":
        """Return what runs a graph that an opaque layer calls."""
        return ParityInterpreter(
            graph, self._sites, self._random, self._codes, feeds_runtime=self._feeds_runtime
        )

    def run_node(self, n: fx.Node) -> Any:
        parity = self._sites.get(n) or self._random.get(n)
        if parity is None:
            return super().run_node(n)
        quantizer = self.fetch_attr(str(n.target))
        tensor = self.env[n.all_input_nodes[0]]
        encoding = quantizer.get_encodings()
        given = self._codes[f"{parity.name}_q"]
        codes, runtime = code_numbers(encoding, tensor), numbers_of_runtime(encoding, given)
        check_sizes(parity.name, codes, runtime)
        if n not in self._random:
            parity.count(codes, runtime, feeds_runtime=self._feeds_runtime)
            if not self._feeds_runtime:
                return quantizer(tensor)
        return real_values(encoding, given).to(tensor)
