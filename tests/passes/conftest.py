"""Fixtures of the passes' tests."""

from collections.abc import Callable

import pytest
from torch import fx, nn

import fxquant
from fxquant.graph import Report, capture, graph_text
from fxquant.passes import Pass, Pipeline, parse, prepare_pipeline
from fxquant.targets import get_target


@pytest.fixture
def captured() -> Callable[..., fx.GraphModule]:
    """Return `captured(model, pipeline)`: the model's graph, after the passes that a text names."""

    def run(model: nn.Module, pipeline: str = "") -> fx.GraphModule:
        gm = capture(model)
        if pipeline:
            parse(pipeline).run(gm, Report())
        return gm

    return run


@pytest.fixture
def calibrated() -> Callable[..., fx.GraphModule]:
    """Return `calibrated(model, target, *inputs)`: the model prepared, with ranges from one batch.

    Every layer with an integer kernel is quantized: the models of these tests are small.
    """

    def run(model: nn.Module, target: str, *inputs: object) -> fx.GraphModule:
        steps = prepare_pipeline(get_target(target)).passes
        config = Pipeline(tuple(step for step in steps if step.name != "assign-small-layers"))
        prepared = fxquant.prepare(model, target=target, config=config)
        fxquant.calibrate(prepared, [inputs])
        return prepared

    return run


@pytest.fixture
def check_rewrite(golden: Callable[[str, str], None]) -> Callable[[fx.GraphModule, Pass, str], Report]:
    """Return `check_rewrite(gm, rewrite, name)`: run a pass and compare what it did with a golden file.

    The file holds the graph before and after, and the sites that were applied or declined.
    """

    def run(gm: fx.GraphModule, rewrite: Pass, name: str) -> Report:
        before, report = graph_text(gm), Report()
        rewrite(gm, report)
        sites = "".join(f"{site}\n" for site in report.sites) or "none\n"
        text = f"Before::\n\n{before}\nAfter::\n\n{graph_text(gm)}\nSites::\n\n{sites}"
        golden(text, f"passes/{rewrite.name.replace('-', '_')}/{name}")
        return report

    return run
