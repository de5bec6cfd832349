"""CalibrationInterpreter: run the float model and show each quantizer the tensors it will quantize."""

from typing import Any

import torch
from torch import fx

from fxquant.calibration.masks import shown
from fxquant.graph import graphs_of
from fxquant.graph.annotations import layer_of
from fxquant.graph.names import tensor_names
from fxquant.graph.nested import interpreted
from fxquant.graph.values import quantizer_of
from fxquant.nn import QuantizationMixin
from fxquant.quantization import QuantizerBase
from fxquant.quantization.of_spec import Trainable, has_codes


class CalibrationInterpreter(fx.Interpreter):
    """Runs a prepared model in float; quantizers observe and pass on what they see.

    Each activation is freed after its last use. A quantizer with a fixed range does not observe.

    Args:
        gm: The prepared model.
        chosen: The quantizers that observe.

    Attributes:
        integer_sites: Calls of quantizers that were given something else than a float tensor.
        empty_sites: Calls of quantizers that were given a tensor without elements.
        masked_sites: Calls of quantizers that were given what masks put where nothing may be seen; they
            observe the rest.
    """

    _node: fx.Node

    def __init__(self, gm: fx.GraphModule, chosen: set[Trainable]) -> None:
        super().__init__(gm)
        self._gm = gm
        self._chosen = chosen
        self.integer_sites: set[fx.Node] = set()
        self.empty_sites: set[fx.Node] = set()
        self.masked_sites: set[fx.Node] = set()

    def run_all(self, *args: Any) -> Any:
        """Run the model, and the graphs that its opaque layers call, in this way."""
        with interpreted(self._gm, self._below):
            return self.run(*args, enable_io_processing=False)

    def _below(self, graph: fx.GraphModule) -> "CalibrationInterpreter":
        inner = type(self)(graph, self._chosen)
        inner.integer_sites, inner.empty_sites = self.integer_sites, self.empty_sites
        inner.masked_sites = self.masked_sites
        return inner

    def run_node(self, n: fx.Node) -> Any:
        self._node = n
        return super().run_node(n)

    def last_layer(self) -> str:
        """Return the user's layer of the node that ran last."""
        return layer_of(self._node)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        if isinstance(module, QuantizerBase):
            value = args[0]
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                self.integer_sites.add(self._node)
            elif value.numel() == 0:
                self.empty_sites.add(self._node)
            elif module in self._chosen and module.encoding_analyzer is not None:
                seen = shown(value)
                if seen is not value:
                    self.masked_sites.add(self._node)
                module.encoding_analyzer.update_stats(seen)
            return value
        if isinstance(module, QuantizationMixin):
            with module.in_float():
                return module(*args, **kwargs)
        return super().call_module(target, args, kwargs)


class NonFiniteFinder(CalibrationInterpreter):
    """Runs a prepared model in float until a tensor holds NaN or Inf.

    Attributes:
        found: The names of such tensors and the user's layers that give them, in the order they show up.
    """

    def __init__(self, gm: fx.GraphModule) -> None:
        super().__init__(gm, set())
        self._names = tensor_names(gm)
        self.found: list[tuple[str, str]] = []

    def _below(self, graph: fx.GraphModule) -> "CalibrationInterpreter":
        inner = NonFiniteFinder(graph)
        inner.found = self.found
        return inner

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        is_float = isinstance(value, torch.Tensor) and value.is_floating_point()
        if is_float and not self.found and not bool(value.isfinite().all()):
            self.found.append((self._names[n], layer_of(n)))
        return value


def quantizer_sites(gm: fx.GraphModule) -> list[tuple[fx.Node, Trainable]]:
    """Return the calls of activation quantizers, in the order of the graphs."""
    sites: list[tuple[fx.Node, Trainable]] = []
    for graph in graphs_of(gm):
        for node in graph.graph.nodes:
            quantizer = quantizer_of(graph, node)
            if isinstance(quantizer, Trainable) and has_codes(quantizer):
                sites.append((node, quantizer))
    return sites


def weight_sites(gm: fx.GraphModule) -> list[tuple[str, torch.Tensor, Trainable]]:
    """Return the layer, parameter and quantizer of every quantized parameter."""
    sites: list[tuple[str, torch.Tensor, Trainable]] = []
    for path, module in gm.named_modules():
        if isinstance(module, QuantizationMixin):
            for name, quantizer in module.param_quantizers.items():
                parameter = module._parameters.get(name)
                if not isinstance(quantizer, Trainable) or not has_codes(quantizer):
                    continue
                if parameter is not None:
                    sites.append((path, parameter, quantizer))
    return sites
