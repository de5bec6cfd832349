"""Switches: let a prepared model run with some of its quantizers alone, without a copy."""

import contextlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import fx, nn

from fxquant.calibration.sites import activation_sites, weight_sites
from fxquant.nn import QuantizationMixin
from fxquant.nn.removal import Removal
from fxquant.quantization import QuantizerBase


@dataclass(frozen=True, kw_only=True, eq=False)
class Unit:
    """Quantizers that are switched together.

    Attributes:
        name: The tensor or parameter, the first one of a shared grid; the layer where units are layers.
        layer: Dotted path of the user's layer; empty for the model's own forward.
        kind: "activation", "weight" or "layer".
        tensors: Names of all tensors and parameters concerned.
        quantizers: The quantizers.
    """

    name: str
    layer: str
    kind: str
    tensors: tuple[str, ...]
    quantizers: tuple[QuantizerBase, ...]


def units_by_site(gm: fx.GraphModule) -> list[Unit]:
    """Return a unit for each quantizer of a prepared model: tensors on one grid are one unit."""
    found: dict[QuantizerBase, list[tuple[str, str, str]]] = {}
    for site in activation_sites(gm):
        found.setdefault(site.quantizer, []).append((site.name, site.layer, "activation"))
    for weight in weight_sites(gm):
        found.setdefault(weight.quantizer, []).append((weight.name, weight.layer, "weight"))
    return [
        Unit(
            name=entries[0][0],
            layer=entries[0][1],
            kind=entries[0][2],
            tensors=tuple(dict.fromkeys(name for name, _, _ in entries)),
            quantizers=(quantizer,),
        )
        for quantizer, entries in found.items()
    ]


def units_by_layer(gm: fx.GraphModule) -> list[Unit]:
    """Return a unit for each of the user's layers: all quantizers whose first tensor it gives."""
    layers: dict[str, list[Unit]] = {}
    for unit in units_by_site(gm):
        layers.setdefault(unit.layer, []).append(unit)
    return [
        Unit(
            name=layer,
            layer=layer,
            kind="layer",
            tensors=tuple(name for unit in units for name in unit.tensors),
            quantizers=tuple(quantizer for unit in units for quantizer in unit.quantizers),
        )
        for layer, units in layers.items()
    ]


class Switches:
    """Switches the quantizers of a model, in its graphs and those that opaque layers call.

    Args:
        gm: The prepared model.
    """

    def __init__(self, gm: fx.GraphModule) -> None:
        self._held: dict[QuantizerBase, list[tuple[nn.ModuleDict, str]]] = {}
        for module in gm.modules():
            if isinstance(module, QuantizationMixin):
                for name, quantizer in module.param_quantizers.items():
                    if isinstance(quantizer, QuantizerBase):
                        self._held.setdefault(quantizer, []).append((module.param_quantizers, name))
        self.quantizers = tuple(m for m in gm.modules() if isinstance(m, QuantizerBase))

    def only(self, quantizers: Collection[QuantizerBase]) -> contextlib.AbstractContextManager[None]:
        """Let no others quantize inside the context."""
        kept = set(quantizers)
        return self.without([q for q in self.quantizers if q not in kept])

    @contextlib.contextmanager
    def without(self, quantizers: Collection[QuantizerBase]) -> Iterator[None]:
        """Let these pass on what they are given inside the context; contexts may be nested."""
        with contextlib.ExitStack() as stack:
            for quantizer in quantizers:
                for container, name in self._held.get(quantizer, ()):
                    if container[name] is quantizer:
                        stack.enter_context(Removal(container, name))
                stack.enter_context(_passing(quantizer))
            yield


@contextlib.contextmanager
def _passing(quantizer: QuantizerBase) -> Iterator[None]:
    held = vars(quantizer)
    if "forward" in held:  # by a context around
        yield
        return
    held["forward"] = _unchanged
    try:
        yield
    finally:
        del held["forward"]


def _unchanged(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
