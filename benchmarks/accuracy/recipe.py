"""A recipe: what is done to a prepared model, as text: "minmax", "sqnr, weights mse", "equalize; sqnr"."""

from dataclasses import dataclass

from torch import nn

import fxquant
from benchmarks.models import Batch
from fxquant.errors import OptionError

PLAIN = ("minmax", "minmax, weights mse", "mse", "sqnr", "percentile", "percentile, weights mse")
"""Those without an algorithm."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Algorithms, and methods of calibration.

    Attributes:
        algorithms: What ``fxquant.optimize`` takes; empty for none.
        method: How ranges of activations are found.
        weights: How those of weights are.
    """

    algorithms: str
    method: str
    weights: str

    @classmethod
    def of(cls, text: str) -> "Recipe":
        """Return the recipe that a text is: "[ALGORITHMS;] METHOD[, weights METHOD]"."""
        algorithms, _, ranges = text.rpartition(";")
        method, _, weights = ranges.partition(", weights ")
        return cls(algorithms=algorithms.strip(), method=method.strip(), weights=weights.strip() or "minmax")

    def apply(self, prepared: nn.Module, batches: list[Batch]) -> None:
        """Calibrate a prepared model in place; again behind algorithms, whose change makes ranges stale.

        Raises:
            OptionError: If a method or an algorithm does not exist.
        """
        fxquant.calibrate(prepared, batches, self.method, weights=self.weights, progress=False)
        if self.algorithms:
            optimize = getattr(fxquant, "optimize", None)
            if optimize is None:
                raise OptionError("This fxquant has no algorithms.", remedy="Leave them out of the recipe.")
            optimize(prepared, batches, self.algorithms)
            fxquant.calibrate(prepared, batches, self.method, weights=self.weights, progress=False)
