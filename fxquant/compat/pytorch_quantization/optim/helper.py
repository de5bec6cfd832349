"""Parameters chosen by patterns of their names, for an optimizer or to be frozen."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from fxquant.compat.pytorch_quantization.nn.modules.quant_rnn import QuantLSTM, QuantLSTMCell
from fxquant.compat.pytorch_quantization.nn.modules.tensor_quantizer import TensorQuantizer
from fxquant.errors import OptionTypeError

__all__ = ["freeze_parameters", "group_parameters", "match_parameters", "quant_weight_inplace"]


def match_parameters(model: nn.Module, patterns: Sequence[str]) -> Iterator[nn.Parameter]:
    """Yield the parameters in whose name a pattern is found.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    >>> [tuple(parameter.shape) for parameter in match_parameters(model, ["^0", "weight$"])]
    [(2, 2), (2,), (2, 2)]
    """
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in patterns):
            yield parameter


def group_parameters(
    model: nn.Module,
    patterns_list: Sequence[Sequence[str]],
    lrs: Sequence[float] | None = None,
    momentums: Sequence[float] | None = None,
    weight_decays: Sequence[float] | None = None,
) -> list[dict[str, Any]]:
    """Return an optimizer's parameter groups, one for each list of patterns.

    Args:
        model: The model.
        patterns_list: The patterns of each group.
        lrs: Learning rate of each group; None for the optimizer's own.
        momentums: Momentum of each group, likewise.
        weight_decays: Weight decay of each group, likewise.

    Raises:
        OptionTypeError: If the patterns are no list of lists, or there are not as many values as groups.
    """
    if not all(isinstance(patterns, list) for patterns in patterns_list):
        raise OptionTypeError("patterns_list must be list of list of patterns.")
    options = {"lr": lrs, "momentum": momentums, "weight_decay": weight_decays}
    given = {name: values for name, values in options.items() if values is not None}
    for name, values in given.items():
        if len(values) != len(patterns_list):
            raise OptionTypeError(f"{name}: {len(values)} values must match {len(patterns_list)} groups.")
    return [
        {
            "params": list(match_parameters(model, patterns)),
            **{name: values[group] for name, values in given.items()},
        }
        for group, patterns in enumerate(patterns_list)
    ]


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> None:
    """Stop training the parameters in whose name a pattern is found."""
    for parameter in match_parameters(model, patterns):
        parameter.requires_grad = False


@torch.no_grad()
def quant_weight_inplace(model: nn.Module) -> None:
    """Replace the weights of quantized layers by their quantized values; the quantizers stay."""
    for module in model.modules():
        if isinstance(module, QuantLSTM | QuantLSTMCell):
            module.quant_weight_inplace()
            continue
        quantizer, weight = getattr(module, "_weight_quantizer", None), getattr(module, "weight", None)
        if (
            isinstance(quantizer, TensorQuantizer)
            and isinstance(weight, torch.Tensor)
            and quantizer.fake_quant
        ):
            weight.copy_(quantizer(weight))
