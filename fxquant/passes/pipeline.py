"""Pipeline: passes in order, as data that prints as text and parses back."""

import dataclasses
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import fx

from fxquant.errors import OptionError
from fxquant.graph import Report, graphs_of
from fxquant.passes.base import Pass
from fxquant.passes.step_text import parse_steps, step_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pipeline:
    """Passes in the order they run. ``str(pipeline)`` is text that ``parse`` reads back.

    Raises:
        OptionError: If a pass stands before one that it must come after.
    """

    passes: tuple[Pass, ...]

    def __post_init__(self) -> None:
        names = [step.name for step in self.passes]
        for index, step in enumerate(self.passes):
            late = [name for name in step.after if name in names[index + 1 :] and name not in names[:index]]
            if late:
                raise OptionError(
                    f"Pass '{step.name}' must come after '{late[0]}'.", remedy="Reorder the pipeline."
                )

    def for_target(self, target: str) -> "Pipeline":
        """Return the pipeline with every pass that takes a target set to this one, where none was chosen.

        Raises:
            OptionError: If a pass was set to another target.
        """
        steps = []
        for step in self.passes:
            field = next((field for field in dataclasses.fields(step) if field.name == "target"), None)
            chosen = target if field is None else getattr(step, "target", target)
            if field is not None and chosen not in (field.default, target):
                raise OptionError(f"Pass '{step.name}' is set to '{chosen}', the target is '{target}'.")
            steps.append(step if field is None else dataclasses.replace(step, **{"target": target}))
        return Pipeline(tuple(steps))

    def run(
        self,
        gm: fx.GraphModule,
        report: Report,
        after_pass: Callable[[Pass, fx.GraphModule], None] | None = None,
    ) -> None:
        """Run every pass on a captured model's graphs, in place; call ``after_pass`` after each, if given."""
        graphs = list(graphs_of(gm))
        for step in self.passes:
            before = len(report.sites)
            for graph in graphs:
                step(graph, report)
            made = report.sites[before:]
            applied = sum(site.applied for site in made)
            log.info("%s: %s applied, %s declined", step.name, applied, len(made) - applied)
            for site in made:
                log.debug("%s", site)
            if after_pass is not None:
                after_pass(step, gm)

    def __str__(self) -> str:
        return ",".join(step_text(step) for step in self.passes)


def parse_pipeline(text: str, catalogue: Iterable[type[Pass]]) -> Pipeline:
    """Return the pipeline that a text names: ``pass-name,pass-name{option=value other=value}``.

    Raises:
        OptionError: If the text is not of that form, or names a pass or option that does not exist.
    """
    return Pipeline(parse_steps(text, catalogue, "pass"))
