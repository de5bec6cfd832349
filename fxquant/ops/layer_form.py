"""LayerForm: how a call of a function on constant parameters is written as a layer that holds them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Tensors = Mapping[str, torch.Tensor]
Make = Callable[[Tensors, Mapping[str, Any], int | None], nn.Module | None]


@dataclass(frozen=True, kw_only=True)
class LayerForm:
    """How a call of a function on constant parameters is written as a layer that holds them.

    Attributes:
        arguments: Names of the function's arguments, in order; the first is the layer's input.
        held: Those that the layer holds, under the same names.
        optional: Those of the held ones that a call may leave out.
        make: Gives a layer, its own tensors without memory, from the held tensors, the other arguments that
            the call gives and the number of dimensions of the input, None for not known. None for a call
            that no layer computes.
    """

    arguments: tuple[str, ...]
    held: tuple[str, ...]
    optional: tuple[str, ...] = ()
    make: Make


def convolution(layer: type[nn.Module], *, is_transposed: bool) -> LayerForm:
    """Return the form of a convolution: weight [out, in / groups, *k]; transposed [in, out / groups, *k]."""
    options: tuple[str, ...] = ("stride", "padding", "dilation", "groups")
    if is_transposed:
        options = ("stride", "padding", "output_padding", "groups", "dilation")

    def make(held: Tensors, given: Mapping[str, Any], rank: int | None) -> nn.Module | None:
        shape, groups = held["weight"].shape, given.get("groups", 1)
        first, second = shape[0], shape[1] * groups
        channels = (first, second) if is_transposed else (second, first)
        if not _is_bias(held, channels[1]):
            return None
        made: Any = layer
        with torch.device("meta"):
            return made(*channels, tuple(shape[2:]), **given, bias="bias" in held)  # type: ignore[no-any-return]  # a module

    names = ("input", "weight", "bias", *options)
    return LayerForm(arguments=names, held=("weight", "bias"), optional=("bias",), make=make)


def _linear(held: Tensors, given: Mapping[str, Any], rank: int | None) -> nn.Module | None:
    outputs, *inputs = held["weight"].shape
    if len(inputs) != 1 or not _is_bias(held, outputs):  # a vector gives one number
        return None
    with torch.device("meta"):
        return nn.Linear(inputs[0], outputs, bias="bias" in held)


def _is_bias(held: Tensors, outputs: int) -> bool:
    """Whether a layer can hold the bias, if there is one: a function also takes one that is broadcast."""
    return "bias" not in held or tuple(held["bias"].shape) == (outputs,)


def _batch_norm(held: Tensors, given: Mapping[str, Any], rank: int | None) -> nn.Module | None:
    layer = _NORMS.get(rank or 0)
    if layer is None or given.get("training") or ("weight" in held) != ("bias" in held):
        return None
    with torch.device("meta"):
        made = layer(len(held["running_mean"]), eps=given.get("eps", 1e-5), affine="weight" in held)
    made.num_batches_tracked = torch.tensor(0)
    return made.eval()


def _layer_norm(held: Tensors, given: Mapping[str, Any], rank: int | None) -> nn.Module | None:
    shape = given.get("normalized_shape")
    sizes = (shape,) if isinstance(shape, int) else tuple(shape or ())
    if "weight" not in held or any(tuple(tensor.shape) != sizes for tensor in held.values()):
        return None
    with torch.device("meta"):
        return nn.LayerNorm(sizes, eps=given.get("eps", 1e-5), bias="bias" in held)


_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}

LINEAR = LayerForm(
    arguments=("input", "weight", "bias"), held=("weight", "bias"), optional=("bias",), make=_linear
)
BATCH_NORM = LayerForm(
    arguments=("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
    held=("running_mean", "running_var", "weight", "bias"),
    optional=("weight", "bias"),
    make=_batch_norm,
)
"""In evaluation mode, on an input whose number of dimensions is known."""
LAYER_NORM = LayerForm(
    arguments=("input", "normalized_shape", "weight", "bias", "eps"),
    held=("weight", "bias"),
    optional=("weight", "bias"),
    make=_layer_norm,
)
