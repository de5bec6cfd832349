"""optimize: run algorithms that make a prepared model more accurate, one after the other."""

from collections.abc import Sequence

from torch import nn

from fxquant.algorithms import Algorithm, AlgorithmReport, parse
from fxquant.api.calibration import calibrate
from fxquant.calibration import uncalibrated_layers, unwrapped
from fxquant.graph import Stage, get_record


def optimize(
    prepared: nn.Module,
    batches: object,
    algorithms: str | Sequence[Algorithm],
    method: str = "minmax",
    *,
    weights: str = "minmax",
    progress: bool = True,
    seed: int = 0,
) -> list[AlgorithmReport]:
    """Make a prepared model more accurate without training, in place, and calibrate it.

    The model is calibrated before each algorithm that needs ranges, if there are none or an algorithm before
    it has made them stale, and at the end. Ranges that an algorithm fixed stay.

    Args:
        prepared: What ``prepare`` returned; calibrated or not.
        batches: Calibration data, as for ``calibrate``; it is read several times.
        algorithms: Text such as "equalize,gptq{sweeps=4}", or algorithms of ``fxquant.algorithms``.
        method: How the range of an activation follows from what was seen, as for ``calibrate``.
        weights: The same for parameters.
        progress: Whether to show progress bars, where there is a terminal.
        seed: Seed of what is random; the same seed gives the same model.

    Returns:
        What each algorithm did, and why it left layers alone.

    Raises:
        ModelTypeError: If it is not a prepared model.
        OptionError: If there is no such algorithm, option or method.
        BatchError: If there is no batch, or one does not fit the model.
        FxQuantError: What the algorithms and ``calibrate`` raise; the algorithm that failed has changed
            nothing, those before it have.
    """
    gm = unwrapped(prepared)
    get_record(gm, Stage.PREPARED)
    steps = parse(algorithms) if isinstance(algorithms, str) else tuple(algorithms)
    reports: list[AlgorithmReport] = []
    for step in steps:
        if step.needs_ranges and (reports or uncalibrated_layers(gm)):
            calibrate(prepared, batches, method, weights=weights, progress=progress)
        reports.append(step(prepared, batches, progress=progress, seed=seed))
    calibrate(prepared, batches, method, weights=weights, progress=progress)
    return reports
