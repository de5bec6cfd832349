"""Capture: turn a model's forward into a graph by symbolic tracing."""

import copy
import inspect
from collections.abc import Collection
from typing import Any

from torch import fx, nn
from torch.nn.utils import parametrize

from fxquant.errors import FxQuantError, ModelTypeError
from fxquant.graph.annotations import LAYER
from fxquant.graph.tracer import LayerTracer, capture_error


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
    tracer = LayerTracer(_defaults(model, given))
    try:
        graph = tracer.trace(copied)
    except FxQuantError:
        raise
    except Exception as error:  # whatever user code raises on a proxy
        raise capture_error(error, layer=type(model).__name__) from error
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
        if parametrize.is_parametrized(module):
            _compute_parametrizations(module)
    return copied


def _compute_parametrizations(module: nn.Module) -> None:
    """Turn parametrized tensors into plain parameters of their present value.

    torch removes the property from the module's class, which the copy shares with the user's module: so the
    copy gets a class of its own first.
    """
    shared = type(module)
    own = {key: value for key, value in vars(shared).items() if key not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, own)
    for name in list(module.parametrizations):  # type: ignore[arg-type]  # a ModuleDict: parametrized
        parametrize.remove_parametrizations(module, name)


def _defaults(model: nn.Module, given: Collection[str]) -> dict[str, Any]:
    """Return the default of every optional input that is not given."""
    parameters = inspect.signature(model.forward).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name: p.default for p in named if p.default is not p.empty and p.name not in given}
