"""Capture: turn a model's forward into a graph by symbolic tracing."""

import copy
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from fxquant.errors import CaptureError, FxQuantError, ModelTypeError
from fxquant.graph.annotations import LAYER
from fxquant.ops import op_of_module

_TORCH = str(Path(torch.__file__).parent)


def capture(model: nn.Module) -> fx.GraphModule:
    """Return a copy of a model as an fx.GraphModule in evaluation mode; the model is left as it is.

    Modules of torch.nn and of the op table stay calls; every other module is traced into. Each node's
    meta holds the dotted path of the user's layer it comes from, under "layer".

    Raises:
        ModelTypeError: If it is not an nn.Module.
        CaptureError: If the forward cannot be traced, such as a branch on a tensor's value; it names the
            layer and the line of the user's code.
    """
    if not isinstance(model, nn.Module):
        raise ModelTypeError(
            f"A model must be a torch.nn.Module, not {type(model).__name__}.",
            remedy="Pass the model itself, not its class, its state dict or its output.",
        )
    copied = copy.deepcopy(model).eval()
    tracer = _LayerTracer()
    try:
        graph = tracer.trace(copied)
    except FxQuantError:
        raise
    except Exception as error:  # whatever user code raises on a proxy
        raise _capture_error(error, layer=type(model).__name__) from error
    gm = fx.GraphModule(copied, graph, class_name=type(model).__name__)
    for node in graph.nodes:
        stack = list(node.meta.get("nn_module_stack") or [""])
        node.meta[LAYER] = str(node.target) if node.op == "call_module" else stack[-1]
    return gm


class _LayerTracer(fx.Tracer):
    """Keeps the modules of the op table whole, and says in which layer a trace failed."""

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
