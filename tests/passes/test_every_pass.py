"""What every pass keeps, checked for all passes of all targets on small models."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import fx, nn

import fxquant
from fxquant.graph import Report, graph_text
from fxquant.graph.annotations import LAYER, layer_of
from fxquant.passes import (
    Changes,
    Pass,
    Pipeline,
    convert_pipeline,
    prepare_pipeline,
)
from fxquant.targets import TARGETS, get_target
from tests.zoo import small_models


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


def places(*changes: Changes) -> list[Any]:
    """Return the places of all targets whose passes declare one of some changes; all without changes."""
    return [
        pytest.param(Place(target, index), id=f"{step.name}-{target}")
        for target in TARGETS
        for index, step in enumerate(whole_way(target))
        if not changes or step.changes in changes
    ]


def whole_way(target: str) -> tuple[Pass, ...]:
    """Return the passes that prepare and then those that convert a model."""
    converting = convert_pipeline(get_target(target), arithmetic="integer")
    return prepare_pipeline(get_target(target)).passes + converting.passes


def fail_on_forward(*args: object, **kwargs: object) -> None:
    pytest.fail("a pass ran a module")


@pytest.mark.parametrize("name", small_models.NAMES)
@pytest.mark.parametrize("place", places())
def test_running_a_pass_twice_equals_running_it_once(place: Place, name: str) -> None:
    gm = place.graph(name)
    place.rewrite(gm, Report())
    once = graph_text(gm)
    place.rewrite(gm, Report())
    assert graph_text(gm) == once


@pytest.mark.parametrize("place", places())
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
