"""Leaves: which modules are one call of a graph, and what they hold."""

import torch
from torch import nn

from fxquant.graph.given_layers import is_replaceable
from fxquant.nn import QuantizationMixin
from fxquant.ops import op_of_module
from fxquant.quantization.given import GivenQuantizer

_CONTAINERS = nn.Sequential | nn.ModuleList | nn.ModuleDict | nn.ParameterList | nn.ParameterDict


def stays_call(module: nn.Module) -> bool:
    """Whether a module is one node of a graph: a layer of the op table or of torch.nn without parts."""
    is_whole = isinstance(module, QuantizationMixin | GivenQuantizer | torch.jit.ScriptModule)
    if is_whole or op_of_module(module) is not None or is_replaceable(module):
        return True
    is_torch = type(module).__module__.startswith("torch.nn.modules") and not list(module.children())
    return is_torch and not isinstance(module, _CONTAINERS)


def holding(module: nn.Module, name: str) -> nn.Module:
    """Return a module that holds another one under a name."""
    holder = nn.Module()
    holder.add_module(name, module)
    return holder


def tensors_held(module: nn.Module) -> list[int]:
    """Return the identities of a module's own tensors; a script makes new objects of them each time."""
    if isinstance(module, torch.jit.ScriptModule):
        return []
    return [id(tensor) for held in (module._parameters, module._buffers) for tensor in held.values()]
