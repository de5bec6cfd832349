"""The verbs that tell where accuracy goes: analyze, measure_sensitivity."""

from collections.abc import Callable

from torch import nn

from fxquant.analysis import Alone, Analysis, Sensitivity, analyze_graph
from fxquant.analysis import measure_sensitivity as measure
from fxquant.calibration import Offload, unwrapped, whole
from fxquant.errors import unknown_option


def analyze(
    prepared: nn.Module,
    batches: object,
    *,
    outlier_factor: float = 8.0,
    progress: bool = True,
    offload: Offload | None = None,
) -> Analysis:
    """Return what every quantized tensor of a prepared model holds, from one pass over data in float.

    Of each: its range and histogram; the error that its quantizer alone makes on it, once ``calibrate`` has
    found ranges; the ranges of its channels, and outlier channels: those whose largest magnitude is at least
    ``outlier_factor`` times the median of all channels' that hold anything but zero. The error follows from
    the histogram, not from running quantizers: its root mean square is off by less than the width of a bin,
    which is 1/2048 of the range seen at most. Of parameters it is exact.

    Args:
        prepared: What ``prepare`` returned, calibrated or not.
        batches: The data, as for ``calibrate``.
        outlier_factor: How far above the median an outlier channel is, above 1.
        progress: Whether to show a progress bar, where there is a terminal.
        offload: How to run a large model block by block, as for ``calibrate``.

    Raises:
        OptionError: If the factor is not above 1.
        ModelTypeError: If it is not a prepared model.
        BatchError: If there is no batch, or the model rejects one.
        NonFiniteError: If NaN or Inf shows up; names the first layer where it did.
    """
    return analyze_graph(
        unwrapped(prepared), batches, outlier_factor=outlier_factor, progress=progress, offload=offload
    )


def measure_sensitivity(
    prepared: nn.Module,
    batches: object,
    alone: str = "one",
    *,
    by: str = "site",
    evaluate: Callable[[nn.Module], float] | None = None,
    max_batches: int | None = 4,
    progress: bool = True,
    offload: Offload | None = None,
) -> Sensitivity:
    """Return what each quantizer of a calibrated model does to the outputs: the model is run once per unit.

    Only the part of the model from a unit's first quantizer on is run for it, half of it on average: the rest
    equals a run before. Tensors on one grid share a quantizer, and are one unit.

    Args:
        prepared: What ``prepare`` returned, with ranges. It is as it was afterwards, also after an error.
        batches: The data, as for ``calibrate``.
        alone: "one" to quantize each unit alone, or "all-but-one" to leave each alone in float.
        by: The units: "site" for each quantizer, "layer" for all of each of the user's layers.
        evaluate: Gives a score, higher is better, for the model it is given; None to compare the outputs with
            the float model's. It is called once for each unit and once for the whole model.
        max_batches: How many batches to measure outputs on; None for all.
        progress: Whether to show a progress bar, where there is a terminal.
        offload: Where values between blocks wait; None for memory.

    Raises:
        OptionError: If there is no such choice, or the model has no float output.
        ModelTypeError: If it is not a prepared model.
        NotCalibratedError: If a quantizer has no range.
        BatchError: If there is no batch, or the model rejects one.
        NonFiniteError: If the float model gives NaN or Inf.
    """
    known = {choice.value: choice for choice in Alone}
    if alone not in known:
        raise unknown_option("choice of what is alone", alone, known)
    gm = unwrapped(prepared)
    with whole(gm):
        return measure(
            gm,
            batches,
            known[alone],
            by,
            evaluate=evaluate,
            max_batches=max_batches,
            progress=progress,
            offload=offload or Offload(),
        )
