"""unwrapped, whole: the prepared model inside what torch wraps it in or shards it with."""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, cast

import torch.distributed as dist
from torch import fx, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

_FSDP = "torch.distributed.fsdp"
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def unwrapped(model: object) -> fx.GraphModule:
    """Return the model that DistributedDataParallel wraps; anything else as it is, for the verb to check."""
    wrapped: Any = model.module if isinstance(model, DistributedDataParallel) else model
    return cast(fx.GraphModule, wrapped)


@contextlib.contextmanager
def whole(gm: nn.Module) -> Iterator[None]:
    """Give a model that ``fully_shard`` has sharded all of its parameters inside the context.

    They are gathered once, and the hooks that would gather and free them around each layer rest. So a forward
    takes no communication, which processes with different numbers of batches could not do, and a range of a
    weight is that of all of it. The model must fit into the memory of one process meanwhile. All processes
    enter and leave together. Without sharding it does nothing.
    """
    parts = _sharded_parts(gm)
    for part in parts:
        part.unshard()
    held = [(part, name, getattr(part, name)) for part in parts for name in _HOOKS]
    for part, name, hooks in held:
        setattr(part, name, OrderedDict((key, hook) for key, hook in hooks.items() if not _is_of_fsdp(hook)))
    try:
        yield
    finally:
        for part, name, hooks in held:
            setattr(part, name, hooks)
        for part in parts:
            part.reshard()


def _sharded_parts(gm: object) -> list[Any]:
    """Return the modules to which ``fully_shard`` was applied."""
    if not dist.is_available() or not dist.is_initialized() or not isinstance(gm, nn.Module):
        return []
    return [module for module in gm.modules() if isinstance(module, FSDPModule)]


def _is_of_fsdp(hook: Any) -> bool:
    return type(getattr(hook, "__self__", None)).__module__.startswith(_FSDP)
