"""Capture: turn a model's forward into a graph, by recording a run of it or by symbolic tracing."""

import inspect
from typing import Any

import torch
from torch import fx, nn

from fxquant.errors import CaptureError, FxQuantError, ModelTypeError
from fxquant.graph.annotations import LAYER
from fxquant.graph.aten import as_torch_calls, note_layers
from fxquant.graph.capture_notes import CaptureNotes, set_capture_notes
from fxquant.graph.copying import check_values, copy_model, unwrapped
from fxquant.graph.coverage import note_macs
from fxquant.graph.given_layers import replace_given_layers
from fxquant.graph.pausing import collections_paused
from fxquant.graph.record import Example
from fxquant.graph.recording import capture_by_recording
from fxquant.graph.tracer import LayerTracer, capture_error
from fxquant.storage import releasing


def capture(model: object, example: Example | None = None) -> fx.GraphModule:
    """Return a copy of a model as an fx.GraphModule in evaluation mode; the model is left as it is.

    With an example the model runs once and is written down as it runs; the graph is then tried on other
    values and another batch size. A layer that no graph can say, such as one that branches on a tensor's
    contents, stays whole, and what it calls gets graphs of its own. Without an example the forward is traced
    symbolically, and every optional input takes its default.

    Layers of torch.nn and of the op table stay calls. Each node's meta holds the dotted path of the user's
    layer it comes from, under "layer". Parametrizations are computed once.

    Args:
        model: An nn.Module, an fx.GraphModule or a torch.export.ExportedProgram. Calls of aten's operators
            become calls of torch.
        example: A call of the model; an ExportedProgram has one of its own.

    Raises:
        ModelTypeError: If it is no model, or cannot be copied.
        CaptureError: If the model fails on the example; without one, if the forward cannot be traced: it
            names the layer and the line of the user's code.
    """
    if isinstance(model, torch.export.ExportedProgram):
        if example is None and model.example_inputs is not None:
            args, kwargs = model.example_inputs
            example = Example(args=args, kwargs=kwargs)
        model = model.module(check_guards=False)
    if not isinstance(model, nn.Module):
        raise ModelTypeError(
            f"A model must be a torch.nn.Module, not {type(model).__name__}.",
            remedy="Pass the model itself, not its class, its state dict or its output.",
        )
    name = type(unwrapped(model)).__name__
    if example is not None:
        check_values(model)
    with collections_paused():
        copied = copy_model(model)
        if example is None:
            return _traced(copied, name)
        with releasing(copied):
            gm = capture_by_recording(copied, example, name)
        replace_given_layers(gm)
        note_macs(gm)
        return gm


def _traced(model: nn.Module, name: str) -> fx.GraphModule:
    tracer = LayerTracer(_defaults(model))
    try:
        graph = tracer.trace(model)
    except FxQuantError:
        raise
    except Exception as error:  # whatever user code raises on a proxy
        raise capture_error(error, layer=name) from error
    _drop_unused_variadics(graph)
    gm = fx.GraphModule(model, graph, class_name=name)
    for node in graph.nodes:
        stack = list(node.meta.get("nn_module_stack") or [""])
        layer = str(node.target) if node.op == "call_module" else stack[-1]
        node.meta[LAYER] = layer.partition("@")[0]  # fx numbers repeated calls of a module
    if isinstance(model, fx.GraphModule):
        note_layers(gm, model)
    as_torch_calls(gm)
    set_capture_notes(gm, CaptureNotes(way="traced"))
    replace_given_layers(gm)
    return gm


def _drop_unused_variadics(graph: fx.Graph) -> None:
    """Remove *args and **kwargs of forward that it never reads."""
    for node in graph.find_nodes(op="placeholder"):
        if str(node.target).startswith("*") and node.users:
            raise CaptureError(
                f"The forward reads '{node.target}', whose length is not known.",
                remedy="Pass example_inputs.",
            )
        if str(node.target).startswith("*"):
            graph.erase_node(node)


def _defaults(model: nn.Module) -> dict[str, Any]:
    """Return the default of every optional input."""
    parameters = inspect.signature(model.forward).parameters.values()
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return {p.name: p.default for p in named if p.default is not p.empty}
