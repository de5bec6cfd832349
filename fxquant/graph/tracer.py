"""LayerTracer: symbolic tracing that keeps layers whole and says where it failed."""

import operator
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from fxquant.errors import CaptureError, FxQuantError, first_line
from fxquant.graph.frugal_code import FrugalCode
from fxquant.graph.leaves import stays_call

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)


class LayerTracer(fx.Tracer):
    """Keeps the modules of the op table whole, and says in which layer a trace failed.

    Args:
        defaults: Values of the inputs that are not inputs of the graph.
    """

    def __init__(self, defaults: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._defaults = defaults or {}  # unpickling makes a tracer without arguments

    def trace(self, root: Any, concrete_args: dict[str, Any] | None = None) -> fx.Graph:
        graph = super().trace(root, concrete_args)
        if type(self) is not LayerTracer:  # fx makes a subclass to load a pickle
            graph.set_codegen(FrugalCode())
        return graph

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        function, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        return function, [self._or_default(value) for value in args]

    def _or_default(self, value: Any) -> Any:
        if not isinstance(value, fx.Proxy) or value.node.target not in self._defaults:
            return value
        self.graph.erase_node(value.node)
        return self._defaults[str(value.node.target)]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return stays_call(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except FxQuantError:
            raise
        except Exception as error:  # whatever user code raises on a proxy
            raise capture_error(error, layer=self.path_of_module(m)) from error

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _InPlaceProxy(node, self)


def capture_error(error: Exception, layer: str) -> CaptureError:
    """Return the error for whatever user code raised on a proxy, with the line of the user's code."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f
        for f in frames
        if not f.filename.startswith(_TORCH) and not f.filename.startswith(_HERE) and "<" not in f.filename
    ]
    line = f' At {own[-1].filename}:{own[-1].lineno}: "{own[-1].line}".' if own else ""
    cause = first_line(error)
    return CaptureError(
        f"The forward cannot be traced symbolically: {cause}.{line}",
        layer=layer,
        remedy="Pass example_inputs: then the model is recorded as it runs, whatever its forward does.",
    )


class _InPlaceProxy(fx.Proxy):
    """Writes ``x += y`` down as an in-place op: it changes what every other name of x sees."""

    def _record(self, function: Callable[..., Any], other: object) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def __iadd__(self, other: object) -> fx.Proxy:
        return self._record(operator.iadd, other)

    def __isub__(self, other: object) -> fx.Proxy:
        return self._record(operator.isub, other)

    def __imul__(self, other: object) -> fx.Proxy:
        return self._record(operator.imul, other)

    def __itruediv__(self, other: object) -> fx.Proxy:
        return self._record(operator.itruediv, other)

    def __imatmul__(self, other: object) -> fx.Proxy:
        return self._record(operator.imatmul, other)
