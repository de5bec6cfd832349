"""Capture: turn a model's forward into a graph by symbolic tracing."""

import copy
import inspect
from collections.abc import Collection
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from fxquant.errors import CaptureError, FxQuantError, ModelTypeError
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
    wrapped = next((name for name in ("_orig_mod", "module") if _is_wrapper(model, name)), None)
    if wrapped or isinstance(model, torch.jit.ScriptModule):
        raise ModelTypeError(
            f"A {type(model).__name__} holds code that cannot be captured.",
            remedy=f"Pass model.{wrapped} instead." if wrapped else "Pass the model it was made from.",
        )
    copied = _copy(model)
    tracer = LayerTracer(_defaults(model, given))
    try:
        graph = tracer.trace(copied)
    except FxQuantError:
        raise
    except Exception as error:  # whatever user code raises on a proxy
        raise capture_error(error, layer=type(model).__name__) from error
    _drop_unused_variadics(graph)
    gm = fx.GraphModule(copied, graph, class_name=type(model).__name__)
    for node in graph.nodes:
        stack = list(node.meta.get("nn_module_stack") or [""])
        layer = str(node.target) if node.op == "call_module" else stack[-1]
        node.meta[LAYER] = layer.partition("@")[0]  # fx numbers repeated calls of a module
    return gm


def _is_wrapper(model: nn.Module, attribute: str) -> bool:
    """Whether a model is what torch.compile, DataParallel or DistributedDataParallel makes of another."""
    is_torch = type(model).__module__.startswith(("torch._dynamo", "torch.nn.parallel"))
    return is_torch and isinstance(getattr(model, attribute, None), nn.Module)


def _drop_unused_variadics(graph: fx.Graph) -> None:
    """Remove *args and **kwargs of forward that it never reads."""
    for node in graph.find_nodes(op="placeholder"):
        if str(node.target).startswith("*") and node.users:
            raise CaptureError(
                f"The forward reads '{node.target}', whose length is not known.",
                remedy="Give each input a name of its own.",
            )
        if str(node.target).startswith("*"):
            graph.erase_node(node)


def _copy(model: nn.Module) -> nn.Module:
    try:
        copied = copy.deepcopy(model).eval()
    except (RuntimeError, TypeError) as error:
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
