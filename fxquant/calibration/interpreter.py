"""CalibrationInterpreter: run a prepared model in float, node by node, to find where something goes wrong."""

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from fxquant.graph.annotations import layer_of
from fxquant.graph.names import tensor_names
from fxquant.graph.nested import interpreted
from fxquant.nn import QuantizationMixin
from fxquant.quantization import QuantizerBase


class CalibrationInterpreter(fx.Interpreter):
    """Runs a prepared model in float: quantizers pass on what they are given.

    Each activation is freed after its last use. ``ObservedModel`` does the same faster; this one knows the
    node that is running.

    Args:
        gm: The prepared model.
        show: Is given each call of a quantizer and its tensor; None for nobody.
    """

    _node: fx.Node

    def __init__(self, gm: fx.GraphModule, show: Callable[[fx.Node, object], None] | None = None) -> None:
        super().__init__(gm)
        self._gm = gm
        self._show = show

    def run_all(self, *args: Any) -> Any:
        """Run the model, and the graphs that its opaque layers call, in this way."""
        with self.nested():
            return self.run(*args, enable_io_processing=False)

    def nested(self) -> contextlib.AbstractContextManager[None]:
        """Run the graphs that opaque layers call in this way too, inside the context."""
        return interpreted(self._gm, self._below)

    def _below(self, graph: fx.GraphModule) -> "CalibrationInterpreter":
        return CalibrationInterpreter(graph, self._show)

    def run_node(self, n: fx.Node) -> Any:
        self._node = n
        return super().run_node(n)

    def last_layer(self) -> str:
        """Return the user's layer of the node that ran last."""
        return layer_of(self._node)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        if isinstance(module, QuantizerBase):
            if self._show is not None:
                self._show(self._node, args[0])
            return args[0]
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
        super().__init__(gm)
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
