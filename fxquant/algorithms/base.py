"""Algorithm: the contract of every algorithm that makes a prepared model more accurate."""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import torch
from torch import fx, nn

from fxquant.algorithms.context import Context
from fxquant.algorithms.report import AlgorithmReport
from fxquant.calibration import uncalibrated_layers, unwrapped, whole
from fxquant.errors import BatchError, NotCalibratedError, some_of
from fxquant.graph import Stage, get_record
from fxquant.passes.step_text import step_text

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Algorithm(ABC):
    """One way to make a prepared model more accurate, in place, without training.

    A subclass is a frozen dataclass whose fields are its options, each with a scalar default: ``str`` gives a
    text that ``fxquant.algorithms.parse`` reads. It holds no state. It works on the graph and the op table.
    Every candidate ends up in the report, applied or declined with a reason.

    Attributes:
        name: Its name in text.
        needs_batches: Whether it runs data.
        needs_ranges: Whether every quantizer must have a range before.
    """

    name: ClassVar[str]
    needs_batches: ClassVar[bool] = False
    needs_ranges: ClassVar[bool] = False

    @final
    def __call__(
        self,
        prepared: nn.Module,
        batches: object = None,
        *,
        progress: bool = True,
        seed: int = 0,
        checkpoint: str | Path | None = None,
    ) -> AlgorithmReport:
        """Run the algorithm on a prepared model, in place; return what it did.

        An error, or KeyboardInterrupt, leaves the model as it was.

        Args:
            prepared: What ``prepare`` returned.
            batches: The data, as ``calibrate`` takes it; None for an algorithm that needs none.
            progress: Whether to show a progress bar, where there is a terminal.
            seed: Seed of what is random; the same seed gives the same model. The caller's generators stay.
            checkpoint: A file that keeps what is done, in case the run ends early; it goes on from it.

        Raises:
            ModelTypeError: If it is not a prepared model.
            BatchError: If it needs batches and there are none.
            NotCalibratedError: If it needs ranges and a quantizer has none.
        """
        gm = unwrapped(prepared)
        get_record(gm, Stage.PREPARED)
        assert isinstance(gm, fx.GraphModule)
        if self.needs_batches and batches is None:
            raise BatchError(f"Algorithm '{self.name}' needs data.", remedy="Pass batches.")
        missing = uncalibrated_layers(gm) if self.needs_ranges else []
        if missing:
            raise NotCalibratedError(
                f"Algorithm '{self.name}' needs ranges; {len(missing)} quantizer(s) have none: "
                f"{some_of(missing)}.",
                layer=missing[0],
                remedy="Call fxquant.calibrate(prepared, batches) first.",
            )
        path = None if checkpoint is None else Path(checkpoint)
        context = Context(batches=batches, progress=progress, seed=seed, checkpoint=path)
        with whole(gm), torch.random.fork_rng(), context.undoing():
            torch.manual_seed(seed)
            self.run(gm, context)
        report = AlgorithmReport(algorithm=str(self), sites=context.sites)
        log.info("%s: %s applied, %s declined", self, len(report.applied), len(report.declined))
        for site in report.sites:
            log.debug("%s: %s", self.name, site)
        return report

    @abstractmethod
    def run(self, gm: fx.GraphModule, context: Context) -> None:
        """Change the model in place through the context, and report every candidate to it."""

    def __str__(self) -> str:
        return step_text(self)
