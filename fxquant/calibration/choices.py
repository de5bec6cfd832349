"""Choices: which calibration method finds the range of which tensor."""

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fxquant.calibration.methods import Method, method_of
from fxquant.calibration.sites import ActivationSite, WeightSite
from fxquant.calibration.tensor_statistics import Kind
from fxquant.errors import OptionError


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The method of each tensor.

    Attributes:
        activations: Method of activations.
        weights: Method of parameters.
        overrides: Methods by pattern: the name of a tensor, of a parameter ("conv1.weight") or of a layer,
            in which "*" stands for anything. The last one that fits counts.
    """

    activations: Method
    weights: Method
    overrides: Mapping[str, Method]

    @classmethod
    def of(cls, method: str, weights: str, overrides: Mapping[str, str] | None) -> "Choices":
        """Return choices written as texts.

        Raises:
            OptionError: If there is no such method.
        """
        chosen = {pattern: method_of(text) for pattern, text in (overrides or {}).items()}
        return cls(activations=method_of(method), weights=method_of(weights), overrides=chosen)

    @property
    def kinds(self) -> frozenset[Kind]:
        """The kinds of statistics that they may need."""
        return frozenset(method.kind for method in (self.activations, *self.overrides.values()))

    def of_activation(self, site: ActivationSite) -> Method:
        """Return the method of an activation."""
        return self._of(self.activations, site.name, site.layer)

    def of_weight(self, site: WeightSite) -> Method:
        """Return the method of a parameter."""
        return self._of(self.weights, site.name, site.layer)

    def check(self, activations: Iterable[ActivationSite], weights: Iterable[WeightSite]) -> None:
        """Check that every override fits something.

        Raises:
            OptionError: If one fits nothing; names it.
        """
        names = {name for site in activations for name in (site.name, site.layer)}
        names |= {name for site in weights for name in (site.name, site.layer)}
        for pattern in self.overrides:
            if not fnmatch.filter(names, pattern):
                raise OptionError(
                    f"The override '{pattern}' fits no quantized tensor and no layer.",
                    remedy="Write the name of a tensor or layer, or a pattern such as 'layer4.*'.",
                )

    def _of(self, default: Method, *names: str) -> Method:
        found = default
        for pattern, method in self.overrides.items():
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                found = method
        return found
