import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

import fxquant
from fxquant.errors import GraphError
from fxquant.graph import Report, capture, graph_text
from fxquant.graph.annotations import LAYER, layer_of
from fxquant.passes import (
    CATALOGUE,
    Changes,
    Pass,
    Pipeline,
    convert_pipeline,
    prepare_pipeline,
)
from fxquant.targets import TARGETS, get_target
from tests.zoo import small_models

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
        self.body = nn.Sequential(nn.Linear(2, 2), nn.Bilinear(2, 2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.body[0](x)
        return torch.erf(self.body[1](y, y) + F.relu(y))


@dataclass(frozen=True)
class Place:
    """A pass at its place on the way of a model."""

    target: str
    index: int

    @property
    def rewrite(self) -> Pass:
        return whole_way(self.target)[self.index]

    def graph(self, model: str) -> fx.GraphModule:
        """Return the graph of a small model as the pass finds it."""
        module, inputs = small_models.build(model)
        preparing = prepare_pipeline(get_target(self.target)).passes
        earlier = whole_way(self.target)[: self.index]
        gm = fxquant.prepare(module, target=self.target, config=Pipeline(earlier[: len(preparing)]))
        if self.index >= len(preparing):
            fxquant.calibrate(gm, [inputs])
        Pipeline(earlier[len(preparing) :]).run(gm, Report())
        return gm


def places(*changes: Changes, broken: Mapping[str, str] | None = None) -> list[Any]:
    """Return the places of all targets whose passes declare one of some changes; all without changes.

    Args:
        changes: What the passes may change.
        broken: The places that are expected to fail, as "pass-target", and why.
    """
    found = []
    for target in TARGETS:
        for index, step in enumerate(whole_way(target)):
            name = f"{step.name}-{target}"
            reason = (broken or {}).get(name)
            marks = [pytest.mark.xfail(reason=reason, raises=AssertionError)] if reason else []
            if not changes or step.changes in changes:
                found.append(pytest.param(Place(target, index), id=name, marks=marks))
    return found


def whole_way(target: str) -> tuple[Pass, ...]:
    """Return the passes that prepare and then those that convert a model."""
    return prepare_pipeline(get_target(target)).passes + convert_pipeline(get_target(target)).passes


def fail_on_forward(*args: object, **kwargs: object) -> None:
    pytest.fail("a pass ran a module")


@pytest.mark.parametrize("name", small_models.NAMES)
@pytest.mark.parametrize(
    "place",
    places(broken={"insert-quantizers-onnxruntime": "an output's spec is given to its quantizer's call too"}),
)
def test_running_a_pass_twice_equals_running_it_once(place: Place, name: str) -> None:
    gm = place.graph(name)
    place.rewrite(gm, Report())
    once = graph_text(gm)
    place.rewrite(gm, Report())
    assert graph_text(gm) == once


@pytest.mark.parametrize(
    "place",
    places(
        broken={
            "insert-quantizers-onnxruntime": "it inserts anew",
            "freeze-encodings-tensorrt": "it says so whenever there is a quantized module",
            "freeze-encodings-onnxruntime": "it says so whenever there is a quantized module",
        }
    ),
)
def test_second_run_of_a_pass_says_that_nothing_changed(place: Place) -> None:
    gm = place.graph("residual")
    place.rewrite(gm, Report())
    assert not place.rewrite(gm, Report())


@pytest.mark.parametrize("name", small_models.NAMES)
@pytest.mark.parametrize("place", places())
def test_nodes_keep_the_users_layers_and_new_nodes_get_one(place: Place, name: str) -> None:
    gm = place.graph(name)
    before = {node.name: layer_of(node) for node in gm.graph.nodes}
    place.rewrite(gm, Report())
    after = {node.name: layer_of(node) for node in gm.graph.nodes}
    assert {name: layer for name, layer in after.items() if name in before}.items() <= before.items()
    assert [node.name for node in gm.graph.nodes if LAYER not in node.meta] == []


@pytest.mark.parametrize("name", small_models.NAMES)
@pytest.mark.parametrize("place", places())
def test_pass_never_runs_a_module(place: Place, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gm = place.graph(name)
    monkeypatch.setattr(nn.Module, "__call__", fail_on_forward)
    place.rewrite(gm, Report())


@pytest.mark.parametrize("name", small_models.NAMES)
@pytest.mark.parametrize("place", places(Changes.NOTHING, Changes.VALUES))
def test_pass_that_does_not_declare_structure_leaves_the_code_as_it_is(place: Place, name: str) -> None:
    gm = place.graph(name)
    before = str(gm.graph)
    place.rewrite(gm, Report())
    assert str(gm.graph) == before


@pytest.mark.parametrize("name", small_models.NAMES)
@pytest.mark.parametrize("place", places(Changes.NOTHING, Changes.STRUCTURE))
def test_pass_that_does_not_declare_values_leaves_the_parameters_as_they_are(place: Place, name: str) -> None:
    gm = place.graph(name)
    before = {key: value.clone() for key, value in gm.named_parameters()}
    place.rewrite(gm, Report())
    after = dict(gm.named_parameters())
    torch.testing.assert_close({key: after[key] for key in before}, before, atol=0.0, rtol=0.0)


@pytest.mark.parametrize("step", CATALOGUE, ids=IDS)
def test_broken_graph_is_refused_before_a_pass_looks_at_it(step: type[Pass]) -> None:
    gm = capture(Net())
    Break().rewrite(gm, Report())
    with pytest.raises(GraphError, match="nowhere"):
        step()(gm, Report())


@pytest.mark.xfail(
    reason="the removal of dead code lints first, and raises torch's own error", raises=RuntimeError
)
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
        pytest.param("body_1", "idle: declined Bilinear at 'body.1': reason", id="module without a row"),
        pytest.param("add", "idle: declined add at 'add': reason", id="function with a row"),
        pytest.param("erf", "idle: declined erf at 'erf': reason", id="function without a row"),
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
