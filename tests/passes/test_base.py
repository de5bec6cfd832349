import dataclasses
import re
from dataclasses import dataclass

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.errors import GraphError
from fxquant.graph import Report, capture, graph_text
from fxquant.passes import (
    CATALOGUE,
    Changes,
    Pass,
    Pipeline,
)

IDS = [step.name for step in CATALOGUE]


@dataclass(frozen=True)
class Idle(Pass):
    """Find nothing to do."""

    name = "idle"
    changes = Changes.NOTHING

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        return False


@dataclass(frozen=True)
class Detach(Pass):
    """Let the output read the first input."""

    name = "detach"
    changes = Changes.STRUCTURE

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        output = gm.graph.output_node()
        output.replace_input_with(output.all_input_nodes[0], gm.graph.find_nodes(op="placeholder")[0])
        self.applied(gm, output, report, "detached")
        return True


@dataclass(frozen=True)
class Break(Pass):
    """Name a module that does not exist."""

    name = "break"
    changes = Changes.STRUCTURE

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        gm.graph.find_nodes(op="call_module")[0].target = "nowhere"
        return True


@dataclass(frozen=True)
class ReturnTwice(Pass):
    """Add a second output, which torch's own lint lets pass."""

    name = "return-twice"
    changes = Changes.STRUCTURE

    def rewrite(self, gm: fx.GraphModule, report: Report) -> bool:
        gm.graph.output(gm.graph.find_nodes(op="placeholder")[0])
        return True


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.CrossMapLRN2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body[0](x)
        return torch.erfinv(self.body[1](y, y) + F.relu(y))


def fail_on_forward(*args: object, **kwargs: object) -> None:
    pytest.fail("a pass ran a module")


@pytest.mark.parametrize("step", CATALOGUE, ids=IDS)
def test_broken_graph_is_refused_before_a_pass_looks_at_it(step: type[Pass]) -> None:
    gm = capture(Net())
    Break().rewrite(gm, Report())
    with pytest.raises(GraphError, match="nowhere"):
        step()(gm, Report())


def test_pass_that_breaks_the_graph_is_caught() -> None:
    with pytest.raises(GraphError, match="nowhere"):
        Break()(capture(Net()), Report())


def test_graph_is_verified_after_a_pass_changed_it() -> None:
    with pytest.raises(GraphError, match="exactly one output"):
        ReturnTwice()(capture(Net()), Report())


def test_what_a_pass_left_unread_is_removed_and_the_graph_compiled_anew() -> None:
    gm, x = capture(Net()), torch.randn(3, 2)
    assert Detach()(gm, Report())
    assert graph_text(gm) == "x = input\nreturn x\n"
    assert gm(x) is x


def test_graph_without_a_change_is_not_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    gm = capture(Net())
    monkeypatch.setattr(type(gm), "recompile", fail_on_forward)
    assert not Idle()(gm, Report())


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("body_0", "idle: declined linear at 'body.0': reason", id="module with a row"),
        pytest.param("body_1", "idle: declined CrossMapLRN2d at 'body.1': reason", id="module without a row"),
        pytest.param("add", "idle: declined add at 'add': reason", id="function with a row"),
        pytest.param("erfinv", "idle: declined erfinv at 'erfinv': reason", id="function without a row"),
    ],
)
def test_site_names_the_op_and_the_layer(name: str, text: str) -> None:
    gm, report = capture(Net()), Report()
    (node,) = (node for node in gm.graph.nodes if node.name == name)
    Idle().declined(gm, node, report, "reason")
    assert [str(site) for site in report.sites] == [text]


def test_applied_and_declined_sites_are_told_apart() -> None:
    gm, report = capture(Net()), Report()
    Detach()(gm, report)
    assert [site.applied for site in report.sites] == [True]


@pytest.mark.parametrize("step", CATALOGUE, ids=IDS)
def test_name_is_the_class_name_in_words(step: type[Pass]) -> None:
    assert step.name == re.sub(r"(?<!^)(?=[A-Z])", "-", step.__name__).lower()
    assert step.__module__ == f"fxquant.passes.{step.name.replace('-', '_')}"


@pytest.mark.parametrize("step", CATALOGUE, ids=IDS)
def test_pass_is_a_frozen_dataclass_with_a_default_for_every_option(step: type[Pass]) -> None:
    made = step()
    assert made == step()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.target = "another"  # type: ignore[attr-defined]  # the error under test


@pytest.mark.parametrize("step", CATALOGUE, ids=IDS)
def test_pass_comes_after_passes_that_exist(step: type[Pass]) -> None:
    assert set(step.after) <= set(IDS)


def test_catalogue_is_in_an_order_that_runs() -> None:
    assert len(Pipeline(tuple(step() for step in CATALOGUE)).passes) == len(CATALOGUE)


@pytest.mark.parametrize("step", CATALOGUE, ids=IDS)
def test_pass_says_that_a_graph_that_computes_nothing_did_not_change(step: type[Pass]) -> None:
    graph = fx.Graph()
    graph.output(graph.placeholder("x"))
    assert not step()(fx.GraphModule(nn.Module(), graph), Report())
