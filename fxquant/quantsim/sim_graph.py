"""sim_graph: a model as a graph of quantized modules without quantizers, which a simulation fills."""

import contextlib
import copy
from typing import Any

from torch import fx, nn

from fxquant.calibration import example_call
from fxquant.errors import ModelTypeError
from fxquant.graph import Report, capture
from fxquant.graph.edit import set_module
from fxquant.nn import QuantizationMixin, quantized_class_of
from fxquant.passes import parse
from fxquant.quantization import QuantizerBase

_PIPELINE = "canonicalize,swap-functions,swap-modules{everything=true}"


class AlreadyQuantizedError(ModelTypeError, RuntimeError):
    """The model given to a simulation holds quantizers already."""


def sim_graph(model: nn.Module, dummy_input: Any, report: Report) -> fx.GraphModule:
    """Return a copy of a model as a graph whose ops are quantized modules, at the paths they had.

    Raises:
        ModelTypeError: If model is no nn.Module, or holds quantizers already (AlreadyQuantizedError).
        CaptureError: If its forward cannot be traced; names the layer and the line.
    """
    _check_is_float(model)
    gm = capture(model, example_call(model, dummy_input))
    parse(_PIPELINE).run(gm, report, None)
    _restore_containers(gm, model)
    _swap_unused(gm)
    return gm


def share_parameters(gm: fx.GraphModule, model: nn.Module) -> None:
    """Let a graph read the parameters and buffers of the model it was captured from."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        path, _, own = name.rpartition(".")
        with contextlib.suppress(AttributeError):  # the graph does not read it
            gm.get_submodule(path)._parameters[own] = parameter


def _check_is_float(model: object) -> None:
    if not isinstance(model, nn.Module):
        return  # capture says so
    held = [
        name or type(model).__name__
        for name, module in model.named_modules()
        if isinstance(module, QuantizationMixin | QuantizerBase)
    ]
    if held:
        raise AlreadyQuantizedError(
            f"The model already contains quantized modules or quantizers: {', '.join(held[:5])}.",
            remedy="Pass the float model.",
        )


def _restore_containers(gm: fx.GraphModule, model: nn.Module) -> None:
    """Let ``sim.model.layers[0]`` find what it found in the user's model: capturing keeps paths only."""
    for path, module in model.named_modules():
        if not path or type(module) not in (nn.Sequential, nn.ModuleList, nn.ModuleDict):
            continue
        with contextlib.suppress(AttributeError):  # the graph calls nothing in it
            found = gm.get_submodule(path)
            if type(found) is nn.Module:
                container = type(module)()
                for name, child in module.named_children():
                    kept = found._modules.get(name)
                    container.add_module(name, copy.deepcopy(child).eval() if kept is None else kept)
                container.training = found.training  # train() would change the children's
                set_module(gm, path, container)


def _swap_unused(gm: fx.GraphModule) -> None:
    """Swap modules that the graph does not call, too: what reads them by name finds quantized modules."""
    for path, module in list(gm.named_modules()):
        is_known = not isinstance(module, QuantizationMixin) and quantized_class_of(type(module)) is not None
        if path and is_known:
            set_module(gm, path, QuantizationMixin.from_module(module))
