"""quantize: prepare, calibrate and convert in one call, and the scores of both models."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import fx, nn

from fxquant.api.calibration import calibrate
from fxquant.api.model import convert, prepare, report
from fxquant.calibration import first_call
from fxquant.errors import OptionError
from fxquant.graph import (
    Report,
)


@dataclass(frozen=True, kw_only=True)
class QuantizationResult:
    """What ``quantize`` found.

    Attributes:
        model: The quantized model.
        report: What each pass did, and why ops stayed float.
        float_score: ``evaluate`` of the float model; None without evaluate.
        score: ``evaluate`` of the quantized model; None without evaluate.
        max_drop: The drop that was allowed; None for any.
    """

    model: fx.GraphModule
    report: Report
    float_score: float | None = None
    score: float | None = None
    max_drop: float | None = None

    @property
    def drop(self) -> float | None:
        """How much the score fell; None without evaluate."""
        return None if self.float_score is None or self.score is None else self.float_score - self.score

    @property
    def is_within_budget(self) -> bool:
        """Whether the score fell by at most ``max_drop``; True where no limit was set."""
        return self.max_drop is None or (self.drop is not None and self.drop <= self.max_drop)


def quantize(
    model: nn.Module,
    batches: object,
    target: str = "tensorrt",
    evaluate: Callable[[nn.Module], float] | None = None,
    max_drop: float | None = None,
    arithmetic: str = "float",
) -> QuantizationResult:
    """Prepare, calibrate and convert a model in one call.

    Args:
        model: The float model; it is not modified.
        batches: Calibration data, as for ``calibrate``.
        target: Name of the target.
        evaluate: Gives a score, higher is better, for the float and for the quantized model.
        max_drop: How far the score may fall; the result says whether it was met.
        arithmetic: How the quantized model rounds, as for ``convert``.

    Raises:
        OptionError: If max_drop is given without evaluate, or the target or arithmetic does not exist.
        FxQuantError: Whatever the single verbs raise.
    """
    if max_drop is not None and evaluate is None:
        raise OptionError(
            "max_drop needs a score to measure.", remedy="Pass evaluate=..., a function of a model."
        )
    example, every = first_call(model, batches)
    prepared = prepare(model, example, target=target)
    calibrate(prepared, every)
    quantized = convert(prepared, arithmetic)
    with torch.no_grad():
        float_score = None if evaluate is None else float(evaluate(copy.deepcopy(model).eval()))
        score = None if evaluate is None else float(evaluate(quantized))
    return QuantizationResult(
        model=quantized,
        report=report(quantized),
        float_score=float_score,
        score=score,
        max_drop=max_drop,
    )
