from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fxquant.graph import capture, graph_text
from fxquant.graph.annotations import layer_of
from fxquant.graph.edit import (
    add_module,
    bypass,
    callers,
    identifier,
    insert_call,
    remove_dead_code,
    set_module,
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.head = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


class WritesAndDrops(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.sigmoid()  # nothing reads it
        x.add_(1.0)
        return x


class WritesByFlag(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        F.relu(x, inplace=True)
        return x


class WritesByName(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.relu_(x)
        return x


class WritesByModule(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.relu(x)
        return x


def test_module_is_added_under_a_path_that_does_not_exist_yet() -> None:
    gm, module = capture(Net()), nn.Identity()
    assert add_module(gm, "room.item", module) == "room.item"
    assert gm.get_submodule("room.item") is module


@pytest.mark.parametrize(
    ("taken", "path"),
    [
        pytest.param("head", "head_1", id="a module"),
        pytest.param("body.0.weight", "body.0.weight_1", id="a parameter"),
        pytest.param("training", "training_1", id="an attribute of every module"),
    ],
)
def test_module_is_added_beside_what_has_its_path(taken: str, path: str) -> None:
    assert add_module(capture(Net()), taken, nn.Identity()) == path


def test_modules_of_one_name_are_numbered() -> None:
    gm = capture(Net())
    paths = [add_module(gm, "room.item", nn.Identity()) for _ in range(3)]
    assert paths == ["room.item", "room.item_1", "room.item_2"]


def test_module_is_added_to_a_new_room_beside_what_every_module_has() -> None:
    assert add_module(capture(Net()), "room.half", nn.Identity()) == "room.half_1"


@pytest.mark.parametrize("path", ["head", "body.0"], ids=["top", "nested"])
def test_module_takes_the_place_of_another(path: str) -> None:
    gm, module = capture(Net()), nn.Linear(2, 2)
    set_module(gm, path, module)
    assert gm.get_submodule(path) is module


def test_inserted_call_belongs_to_the_layer_of_its_operand(golden: Callable[[str, str], None]) -> None:
    gm = capture(Net())
    path = add_module(gm, "probe", nn.Identity())
    (relu,) = gm.graph.find_nodes(op="call_module", target="body.1")
    call = insert_call(gm, path, relu, after=relu)
    assert layer_of(call) == "body.1"
    golden(graph_text(gm), "graph/edit/insert_call")


def test_bypassed_node_is_gone_and_its_users_read_another_value(golden: Callable[[str, str], None]) -> None:
    gm = capture(Net())
    (relu,) = gm.graph.find_nodes(op="call_module", target="body.1")
    bypass(gm, relu, relu.all_input_nodes[0])
    golden(graph_text(gm), "graph/edit/bypass")


def test_dead_code_is_removed_and_writes_in_place_stay(golden: Callable[[str, str], None]) -> None:
    gm = capture(WritesAndDrops())
    remove_dead_code(gm, gm.graph)
    golden(graph_text(gm), "graph/edit/remove_dead_code")


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(WritesByFlag(), id="functional"),
        pytest.param(WritesByName(), id="function with an underscore"),
        pytest.param(WritesByModule(), id="module"),
    ],
)
def test_writes_in_place_of_every_form_stay(model: nn.Module) -> None:
    gm = capture(model)
    before = graph_text(gm)
    remove_dead_code(gm, gm.graph)
    assert graph_text(gm) == before


def test_callers_are_gathered_by_module_however_many_paths_it_has() -> None:
    gm = capture(Net())
    gm.add_submodule("again", gm.head)
    (head,) = gm.graph.find_nodes(op="call_module", target="head")
    with gm.graph.inserting_after(head):
        again = gm.graph.call_module("again", (head,))
    found = callers(gm, lambda module: isinstance(module, nn.Linear))
    assert found[id(gm.head)] == [head, again]
    assert set(found) == {id(gm.head), id(gm.get_submodule("body.0"))}


@pytest.mark.parametrize(
    ("name", "safe"),
    [("layer1.0.conv", "layer1_0_conv"), ("block@1", "block_1"), ("plain", "plain")],
    ids=["path", "sign", "plain"],
)
def test_identifier_can_stand_in_an_attribute_path(name: str, safe: str) -> None:
    assert identifier(name) == safe
