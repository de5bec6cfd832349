"""Algorithms that make a prepared model more accurate without training: one per file."""

from fxquant.algorithms.absorb_bias import AbsorbBias
from fxquant.algorithms.adaround import AdaRound
from fxquant.algorithms.awq import Awq
from fxquant.algorithms.base import Algorithm
from fxquant.algorithms.context import Context
from fxquant.algorithms.correct_bias import CorrectBias
from fxquant.algorithms.equalize import Equalize
from fxquant.algorithms.gptq import Gptq
from fxquant.algorithms.keep_float import KeepFloat
from fxquant.algorithms.reestimate_batch_norm import ReestimateBatchNorm
from fxquant.algorithms.report import AlgorithmReport, AlgorithmSite
from fxquant.algorithms.sequential_mse import SequentialMse
from fxquant.algorithms.smooth_quant import SmoothQuant
from fxquant.passes.step_text import parse_steps

CATALOGUE: tuple[type[Algorithm], ...] = (
    KeepFloat,
    Equalize,
    AbsorbBias,
    SmoothQuant,
    Awq,
    SequentialMse,
    AdaRound,
    Gptq,
    ReestimateBatchNorm,
    CorrectBias,
)
"""Every algorithm, in the order in which they are best run."""


def parse(text: str) -> tuple[Algorithm, ...]:
    """Return the algorithms that a text names: ``equalize,gptq{option=value other=value}``.

    Raises:
        OptionError: If the text is malformed, or names an algorithm or option that does not exist.
    """
    return parse_steps(text, CATALOGUE, "algorithm")


__all__ = [
    "CATALOGUE",
    "AbsorbBias",
    "AdaRound",
    "Algorithm",
    "AlgorithmReport",
    "AlgorithmSite",
    "Awq",
    "Context",
    "CorrectBias",
    "Equalize",
    "Gptq",
    "KeepFloat",
    "ReestimateBatchNorm",
    "SequentialMse",
    "SmoothQuant",
    "parse",
]
