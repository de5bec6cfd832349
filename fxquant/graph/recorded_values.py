"""What goes into a recorded forward and what comes out of it: values of any type, bound to nodes."""

import builtins
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import fx

from fxquant.graph.annotations import LAYER
from fxquant.graph.assemble import Assemble, is_plain_container
from fxquant.graph.recorder import Recorder
from fxquant.graph.structure import has_parts
from fxquant.graph.traced_numbers import traced

_Bind = Callable[[Recorder, Any, fx.Node], Any]


def bind_input(recorder: Recorder, name: str, value: Any) -> Any:
    """Add an input to a graph; return the value to run the forward with.

    Tensors and numbers may lie in containers and objects. A flag, a text or None is fixed.
    """
    node = recorder.graph.create_node("placeholder", name)
    node.meta[LAYER] = recorder.path
    if isinstance(value, bool | str) or value is None:
        recorder.fix(node, value, line="")
        return value
    return _bind_input(recorder, value, node)


def bind_whole(recorder: Recorder, value: Any, node: fx.Node) -> Any:
    """Note that a node gives a value of any type, such as an object that holds tensors."""
    if isinstance(value, torch.Tensor | torch.Size | int | float):
        return recorder.bind(value, node)
    return _bind_parts(recorder, value, node, bind_whole)


def write_output(recorder: Recorder, value: Any) -> None:
    """End a graph with what the forward gave, after writes to buffers that it replaced."""
    recorder.write_back_buffers()
    recorder.fix_ranks()
    recorder.graph.output(_output_argument(recorder, value))


def _bind_input(recorder: Recorder, value: Any, node: fx.Node) -> Any:
    if isinstance(value, torch.Tensor):
        if recorder.node_of(value) is not None:  # the same object was given twice
            value = value.clone()
        value = value.detach() if value.requires_grad else value
        recorder.gives(node, value)
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return traced(value, node, recorder)
    return _bind_parts(recorder, value, node, _bind_input)


def _bind_parts(recorder: Recorder, value: Any, node: fx.Node, bind: _Bind) -> Any:
    """Bind the parts of a container or object; plain containers come back with traced numbers."""

    def bound(key: Any, item: Any) -> Any:
        return bind(recorder, item, recorder.part(node, key)) if _is_carrier(item) else item

    if type(value) is tuple:
        value = tuple(bound(index, item) for index, item in enumerate(value))
    elif type(value) is list:
        value[:] = [bound(index, item) for index, item in enumerate(value)]
    elif type(value) is dict:
        value.update({key: bound(key, item) for key, item in value.items()})
    elif isinstance(value, Mapping | tuple | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            bound(key, item)
    elif has_parts(value) and id(value) not in recorder.objects:
        recorder.objects[id(value)] = value, node
        for name in [f.name for f in fields(value)] if is_dataclass(value) else list(vars(value)):
            item = getattr(value, name)
            if _is_carrier(item):
                bind(recorder, item, recorder.node("call_function", builtins.getattr, (node, name)))
    if has_parts(value):
        recorder.objects[id(value)] = value, node
    return value


def _output_argument(recorder: Recorder, value: Any) -> Any:
    if is_plain_container(value):
        return recorder.argument(value, lambda part: _output_argument(recorder, part))
    if has_parts(value) and not isinstance(value, torch.Size):
        module, tensors = Assemble.taking_apart(value)
        path = recorder.add_module(f"{type(value).__name__.lower()}_structure", module)
        return recorder.node("call_module", path, tuple(map(recorder.argument, tensors)))
    return recorder.argument(value)


def _is_carrier(value: Any) -> bool:
    """Whether a value may hold tensors or sizes."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number or isinstance(value, torch.Tensor) or has_parts(value)
