"""Capture: turn a model's forward into a graph by symbolic tracing."""

import copy
import inspect
import operator
import traceback
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from fxquant.errors import CaptureError, FxQuantError, ModelTypeError
from fxquant.graph.annotations import LAYER
from fxquant.ops import op_of_module

_TORCH = str(Path(torch.__file__).parent)


def capture(model: nn.Module, given: Collection[str] = ()) -> fx.GraphModule:
    """Return a copy of a model as an fx.GraphModule in evaluation mode; the model is left as it is.

    Modules of torch.nn and of the op table stay calls; every other module is traced into. Each node's
    meta holds the dotted path of the user's layer it comes from, under "layer". Parametrizations are computed
    once.

    Args:
        model: The model.
        given: Names of the optional inputs to keep; every other one takes its default.

    Raises:
        ModelTypeError: If it is not an nn.Module, or cannot be copied.
        CaptureError: If the forward cannot be traced, such as a branch on a tensor's value; it names the
            layer and the line of the user's code.
    """
    if not isinstance(model, nn.Module):
        raise ModelTypeError(
            f"A model must be a torch.nn.Module, not {type(model).__name__}.",
            remedy="Pass the model itself, not its class, its state dict or its output.",
        )
    copied = _copy(model)
    tracer = _LayerTracer(_defaults(model, given))
    try:
        graph = tracer.trace(copied)
    except FxQuantError:
        raise
    except Exception as error:  # whatever user code raises on a proxy
        raise _capture_error(error, layer=type(model).__name__) from error
    gm = fx.GraphModule(copied, graph, class_name=type(model).__name__)
    for node in graph.nodes:
        stack = list(node.meta.get("nn_module_stack") or [""])
        layer = str(node.target) if node.op == "call_module" else stack[-1]
        node.meta[LAYER] = layer.partition("@")[0]  # fx numbers repeated calls of a module
    return gm


def _copy(model: nn.Module) -> nn.Module:
    try:
        copied = copy.deepcopy(model).eval()
    except RuntimeError as error:
        raise ModelTypeError(
            f"The model cannot be copied: {error}.",
            remedy="Remove hooks that compute a weight, for example with torch.nn.utils.remove_weight_norm.",
        ) from error
    for module in copied.modules():
        for name in list(getattr(module, "parametrizations", ())):
            parametrize.remove_parametrizations(module, name)
    return copied


def _defaults(model: nn.Module, given: Collection[str]) -> dict[str, Any]:
    """Return the default of every optional input that is not given."""
    parameters = inspect.signature(model.forward).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name: p.default for p in named if p.default is not p.empty and p.name not in given}


class _LayerTracer(fx.Tracer):
    """Keeps the modules of the op table whole, and says in which layer a trace failed.

    Args:
        defaults: Values of the inputs that are not inputs of the graph.
    """

    def __init__(self, defaults: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._defaults = defaults or {}  # unpickling makes a tracer without arguments

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
        return op_of_module(m) is not None or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except FxQuantError:
            raise
        except Exception as error:  # whatever user code raises on a proxy
            raise _capture_error(error, layer=self.path_of_module(m)) from error

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _InPlaceProxy(node, self)


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


def _capture_error(error: Exception, layer: str) -> CaptureError:
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        f
        for f in frames
        if not f.filename.startswith(_TORCH) and f.filename != __file__ and "<" not in f.filename
    ]
    line = f' At {own[-1].filename}:{own[-1].lineno}: "{own[-1].line}".' if own else ""
    cause = str(error).strip().split("\n")[0]
    return CaptureError(
        f"The forward cannot be traced symbolically: {cause}.{line}",
        layer=layer,
        remedy="Take what depends on a tensor's contents (an if, a loop count, int(tensor)) out of the "
        "forward, or quantize the parts of the model on either side of it.",
    )
