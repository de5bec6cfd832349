"""How far outputs are from those of the float model. Knows nothing of fxquant."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """Outputs beside the float model's.

    Attributes:
        mean_cosine: Mean over the rows of the cosine between both, in [-1, 1].
        worst_cosine: The least of them.
        sqnr: Power of the float outputs over that of the difference, in dB; inf where they are equal.
        top1: Percent of rows whose highest value is at the label; None where there are no labels.
    """

    mean_cosine: float
    worst_cosine: float
    sqnr: float
    top1: float | None = None

    def __str__(self) -> str:
        cosine = f"{self.mean_cosine:.4f} / {self.worst_cosine:.3f}, {self.sqnr:.1f} dB"
        return cosine if self.top1 is None else f"{self.top1:.1f} %, {self.sqnr:.1f} dB"


def fidelity_of(outputs: Tensor, wanted: Tensor, labels: Tensor | None = None) -> Fidelity:
    """Compare outputs with those of the float model.

    Args:
        outputs: [rows, features].
        wanted: The float model's, of the same shape.
        labels: [rows], or None.
    """
    outputs, wanted = outputs.double(), wanted.double()
    cosines = torch.nn.functional.cosine_similarity(outputs, wanted)
    noise = float((outputs - wanted).square().sum())
    ratio = float(wanted.square().sum()) / noise if noise else math.inf
    return Fidelity(
        mean_cosine=float(cosines.mean()),
        worst_cosine=float(cosines.min()),
        sqnr=10 * math.log10(ratio) if ratio > 0 else -math.inf,
        top1=None if labels is None else 100 * float((outputs.argmax(1) == labels).double().mean()),
    )
