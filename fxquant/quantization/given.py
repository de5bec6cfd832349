"""Given quantizers: those that a user's model holds before fxquant sees it.

A library whose models are to be taken as they are lets its quantizers inherit ``GivenQuantizer`` and its
layers ``GivenLayer``. ``prepare`` then puts its own quantizers in their place and keeps their ranges.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

_ATTRIBUTE = "_fxquant_given"


@dataclass(frozen=True, kw_only=True, eq=False)
class Given:
    """What a given quantizer does to a tensor.

    Attributes:
        path: Where it is in the user's model.
        amax: The largest magnitude on its grid, at least 0: of shape [], or broadcastable against the
            tensor; None where it takes that of each tensor anew.
        bitwidth: Width of its codes in bits.
        signed: Whether its grid reaches as far below zero as above; otherwise it begins at zero.
        is_integer: Whether its codes are integers: steps of amax / (2 ** (bitwidth - 1) - 1), or of
            amax / (2 ** bitwidth - 1) unsigned.
        is_on: Whether it quantizes; one that is switched off says that the user wants a float tensor.
        factor: What the tensor is multiplied by first; None for nothing.
    """

    path: str = ""
    amax: torch.Tensor | None = None
    bitwidth: int = 8
    signed: bool = True
    is_integer: bool = True
    is_on: bool = True
    factor: torch.Tensor | None = None

    def times(self, factors: torch.Tensor) -> "Given":
        """Return it for a tensor multiplied by factors that broadcast against it."""
        if self.amax is None:
            return self
        amax = self.amax * factors.abs().to(self.amax.dtype)
        return replace(self, amax=amax)


class GivenQuantizer(nn.Module, ABC):
    """A quantizer of another library: a module called with one tensor."""

    @abstractmethod
    def given(self, path: str) -> Given | str:
        """Return what it does at a path of the model; or why no other quantizer can take its place."""


class GivenLayer(ABC):
    """A layer of another library that quantizes its input and its weight."""

    @abstractmethod
    def float_layer(self) -> nn.Module | None:
        """Return the float layer, which shares its tensors; None where it computes something else, too."""

    @abstractmethod
    def given_quantizers(self) -> Mapping[str, GivenQuantizer]:
        """Return its quantizers by the name of what they quantize: "input", a parameter's, or other words."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerGiven:
    """What a layer's own quantizers did, kept on the float layer in its place.

    Attributes:
        input: What was done to its input; None for nothing.
        off: What has a quantizer that is switched off; empty where there is none.
        lost: What else had quantizers: several tensors together, which no quantizer here stands for.
    """

    input: Given | None
    off: str
    lost: tuple[str, ...] = ()


def keep_for(holder: nn.Module | torch.Tensor, kept: Given | LayerGiven) -> None:
    """Keep on a constant, or on a layer, what was given for it. A copy of a tensor does not have it."""
    holder.__dict__[_ATTRIBUTE] = kept


def given_for(tensor: object) -> Given | None:
    """Return what was given for a constant; None for nothing."""
    kept = getattr(tensor, "__dict__", {}).get(_ATTRIBUTE)
    return kept if isinstance(kept, Given) else None


def given_to(layer: nn.Module) -> LayerGiven | None:
    """Return what a layer's own quantizers did; None for a layer that had none."""
    kept = layer.__dict__.get(_ATTRIBUTE)
    return kept if isinstance(kept, LayerGiven) else None


def widest(one: Given | None, other: Given) -> Given:
    """Return what is given for a tensor that several quantizers read: the widest of their ranges."""
    if one is None or one.amax is None or not one.is_on:
        return other
    if other.amax is None or not other.is_on:
        return one
    return replace(
        one,
        amax=torch.maximum(one.amax, other.amax.to(one.amax)),
        bitwidth=max(one.bitwidth, other.bitwidth),
        signed=one.signed or other.signed,
        is_integer=one.is_integer and other.is_integer,
    )
