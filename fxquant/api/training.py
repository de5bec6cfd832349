"""What sharded training needs: range_parameters, average_range_gradients."""

import torch
import torch.distributed as dist
from torch import nn

from fxquant.quantization import QuantizerBase


def range_parameters(model: nn.Module) -> set[nn.Parameter]:
    """Return the parameters that hold the ranges of a model's quantizers.

    They are single numbers, or one per channel, and cannot be sharded: pass them to
    ``fully_shard(layer, ignored_params=fxquant.range_parameters(prepared))``.
    """
    modules = [module for module in model.modules() if isinstance(module, QuantizerBase)]
    return {parameter for module in modules for parameter in module.parameters(recurse=False)}


def average_range_gradients(model: nn.Module) -> None:
    """Average the gradients of the ranges over all processes, before a step of the optimizer.

    ``fully_shard`` does so for what it shards alone, ``DistributedDataParallel`` for everything. Where a
    range has no gradient here, it counts as zero. One collective serves all of them. Without a process group,
    it does nothing.
    """
    if not dist.is_available() or not dist.is_initialized():
        return
    wanted = range_parameters(model)
    parameters = [
        p for p in model.parameters() if p in wanted and p.requires_grad
    ]  # in the same order on all
    if not parameters:
        return
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for parameter, part in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter).clone()
