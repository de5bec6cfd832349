from collections import UserDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType

import pytest
import torch

from fxquant.calibration.leaves import with_leaves

Pair = namedtuple("Pair", "left right")


@dataclass(frozen=True)
class Record:
    values: torch.Tensor
    name: str = "a"


class Tagged(UserDict):
    tag = "none"


X = torch.ones(2)


def doubled(leaf):
    return leaf * 2


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"x": X, "n": 1}, id="dict"),
        pytest.param([X, None], id="list"),
        pytest.param((X, "a"), id="tuple"),
        pytest.param(Pair(X, 3), id="named tuple"),
        pytest.param(Record(X), id="frozen dataclass"),
        pytest.param(Tagged(x=X), id="user dict"),
        pytest.param({"x": [Pair(X, Record(X))]}, id="nested"),
    ],
)
def test_container_keeps_its_kind_and_its_original_is_left_alone(value):
    before = repr(value)
    found = with_leaves(value, doubled)
    assert type(found) is type(value)
    assert repr(found) == before.replace("1., 1.", "2., 2.")
    assert repr(value) == before


def test_container_in_which_nothing_changes_is_the_same_object():
    value = {"x": [Pair(X, Record(X))]}
    assert with_leaves(value, lambda leaf: leaf) is value


def test_attributes_of_a_dict_subclass_are_kept():
    value = Tagged(x=X)
    value.tag = "kept"
    assert with_leaves(value, doubled).tag == "kept"


def test_mapping_that_cannot_be_changed_becomes_a_dict():
    assert type(with_leaves(MappingProxyType({"x": X}), doubled)) is dict
