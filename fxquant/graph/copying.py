"""copy_model: a copy of any model, in evaluation mode, its weights plain parameters."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from fxquant.errors import ModelTypeError
from fxquant.storage import shared_copies


def copy_model(model: nn.Module) -> nn.Module:
    """Return a copy of a model in evaluation mode; the model is left as it is.

    What torch.compile and the data-parallel wrappers put around a model is left out. Parametrizations and
    the hooks of weight and spectral norm are computed once. What cannot be copied, such as a lock or an open
    file, is shared. Parameters that lie in a file lie in the same file in the copy.

    Raises:
        ModelTypeError: If it is a ScriptModule, or cannot be copied.
    """
    model = unwrapped(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise ModelTypeError(
            f"A {type(model).__name__} holds code that cannot be captured.",
            remedy="Pass the model it was made from.",
        )
    copied = _copied(model).eval()
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            parent._modules[name] = unwrapped(child)
    for module in copied.modules():
        if parametrize.is_parametrized(module):
            _compute_parametrizations(module)
        _compute_weight_hooks(module)
    return copied


def unwrapped(model: nn.Module) -> nn.Module:
    """Return what torch.compile, DataParallel or DistributedDataParallel was given; else the model itself."""
    inner = getattr(model, "_orig_mod", None) or getattr(model, "module", None)
    is_wrapper = type(model).__module__.startswith(("torch._dynamo", "torch.nn.parallel"))
    return unwrapped(inner) if is_wrapper and isinstance(inner, nn.Module) else model


def check_values(model: nn.Module) -> None:
    """Check that a model has values to run on.

    Raises:
        ModelTypeError: If a parameter or buffer is on the meta device; names the layer.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.device.type == "meta":
            raise ModelTypeError(
                f"'{name}' is on the meta device: it has no values.",
                layer=name.rpartition(".")[0] or None,
                remedy="Give the model its values first: fxquant.load_shards(model, folder).",
            )


class _CopyingTensors(TorchFunctionMode):
    """Lets copy.deepcopy copy tensors that are results of a computation, detached."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__deepcopy__ and not args[0].is_leaf:
            tensor, memo = args
            memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))


def _copied(model: nn.Module) -> nn.Module:
    try:
        with _CopyingTensors():
            return copy.deepcopy(model, shared_copies(model))
    except Exception:  # whatever an attribute of the model raises
        memo = _uncopyable(model)
    try:
        with _CopyingTensors():
            return copy.deepcopy(model, shared_copies(model) | memo)
    except Exception as error:  # the same, from within a module's own __deepcopy__
        raise ModelTypeError(
            f"The model cannot be copied: {error}.",
            remedy="Make copy.deepcopy(model) work.",
        ) from error


def _uncopyable(model: nn.Module) -> dict[int, Any]:
    """Return the attributes that deepcopy has to share, as its memo."""
    modules = {id(module): module for module in model.modules()}
    shared: dict[int, Any] = {}
    for module in model.modules():
        for name, value in vars(module).items():
            if name in ("_parameters", "_buffers", "_modules"):
                continue
            try:
                with _CopyingTensors():
                    copy.deepcopy(value, dict(modules))
            except Exception:  # whatever the value raises
                shared[id(value)] = value
    return shared


def _compute_parametrizations(module: nn.Module) -> None:
    """Turn parametrized tensors into plain parameters of their present value.

    torch removes the property from the module's class, which the copy shares with the user's module: so the
    copy gets a class of its own first.
    """
    shared = type(module)
    own = {key: value for key, value in vars(shared).items() if key not in ("__dict__", "__weakref__")}
    module.__class__ = type(shared.__name__, shared.__bases__, own)
    for name in list(module.parametrizations):  # type: ignore[arg-type]  # a ModuleDict: parametrized
        with torch.enable_grad():  # what needs no gradient becomes a buffer
            parametrize.remove_parametrizations(module, name)
    _forget_hooks(module, "torch.nn.utils.parametrizations")


def _compute_weight_hooks(module: nn.Module) -> None:
    """Turn weights that a hook computes before each call into plain parameters of their present value."""
    hooks: dict[int, Any] = dict(module._forward_pre_hooks)
    for key, hook in hooks.items():
        is_weight_hook = hasattr(hook, "compute_weight") and hasattr(hook, "remove")
        if is_weight_hook and type(hook).__module__.startswith("torch.nn.utils"):
            with torch.no_grad():
                hook.remove(module)
            del module._forward_pre_hooks[key]
            _forget_hooks(module, type(hook).__module__)


def _forget_hooks(module: nn.Module, origin: str) -> None:
    """Remove what a package hung onto the state of a module."""
    for hooks in (module._state_dict_hooks, module._load_state_dict_pre_hooks):
        for key, held in list(hooks.items()):
            hook = getattr(held, "hook", held)
            if origin in (getattr(hook, "__module__", ""), type(hook).__module__):
                del hooks[key]
