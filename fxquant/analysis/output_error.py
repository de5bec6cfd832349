"""OutputError: how far outputs are from those of the float model, summed over batches."""

import math

import torch

from fxquant.errors import NonFiniteError, OptionError
from fxquant.graph.structure import tensors_in


class OutputError:
    """Sums of what an output differs by; several outputs count alike, whatever their scales."""

    def __init__(self) -> None:
        self._noise: list[float] = []
        self._signal: list[float] = []
        self._elements = 0
        self._cosines, self._rows, self._worst = 0.0, 0, 1.0

    def add(self, outputs: object, wanted: object) -> None:
        """Add a batch.

        Args:
            outputs: What the model gave.
            wanted: What the float model gave.
        """
        pairs = list(zip(float_tensors(outputs), float_tensors(wanted), strict=True))
        self._noise = self._noise or [0.0] * len(pairs)
        self._signal = self._signal or [0.0] * len(pairs)
        for index, (given, right) in enumerate(pairs):
            found, exact = given.double(), right.double()
            self._noise[index] += float((found - exact).square().sum())
            self._signal[index] += float(exact.square().sum())
            self._elements += exact.numel()
            rows = exact.shape[0] if exact.dim() > 1 else 1
            for one, other in zip(found.reshape(rows, -1), exact.reshape(rows, -1), strict=True):
                cosine = _cosine(one, other)
                self._cosines += cosine
                self._rows += 1
                self._worst = min(self._worst, cosine)

    @property
    def mse(self) -> float:
        """Mean squared difference over the elements of all outputs."""
        return sum(self._noise) / max(self._elements, 1)

    @property
    def sqnr(self) -> float:
        """Signal to noise in dB: of outputs' ratios of noise to signal, the mean; infinite without noise."""
        ratios = [_ratio(noise, signal) for noise, signal in zip(self._noise, self._signal, strict=True)]
        return decibels(sum(ratios) / max(len(ratios), 1))

    @property
    def cosine(self) -> float:
        """Mean cosine of the rows, which are those of the first dimension."""
        return self._cosines / max(self._rows, 1)

    @property
    def worst_cosine(self) -> float:
        """The smallest cosine of a row."""
        return self._worst


def decibels(noise_to_signal: float) -> float:
    """Return a ratio of noise to signal as SQNR: -10 log10, infinite for 0."""
    if math.isnan(noise_to_signal):
        return -math.inf
    if noise_to_signal == 0:
        return math.inf
    return -10 * math.log10(noise_to_signal) if noise_to_signal < math.inf else -math.inf


def float_tensors(outputs: object) -> list[torch.Tensor]:
    """Return the floating tensors of what a model gives."""
    return [t for t in tensors_in(outputs) if t.is_floating_point() and t.numel()]


def check_outputs(outputs: object, index: int) -> None:
    """Check what the float model gives.

    Args:
        outputs: What it gave.
        index: Number of the batch.

    Raises:
        OptionError: If there is no float tensor to measure.
        NonFiniteError: If one holds NaN or Inf.
    """
    tensors = float_tensors(outputs)
    if not tensors:
        raise OptionError(
            "The model gives no float tensor whose error could be measured.",
            remedy="Pass evaluate=..., a function of a model.",
        )
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise NonFiniteError(
            f"The float model gives NaN or Inf for batch {index}.", remedy="Remove such values from the data."
        )


def _ratio(noise: float, signal: float) -> float:
    return noise / signal if signal else (math.inf if noise else 0.0)


def _cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    product = float(one.norm() * other.norm())
    if product == 0.0:
        return 1.0 if torch.equal(one, other) else 0.0
    return float(one @ other) / product
