"""DecomposeEmbedding: layers that look rows up."""

from typing import Any

import pytest
import torch
from torch import nn

import fxquant
from fxquant.graph import capture
from fxquant.passes import DecomposeEmbedding

IDS = torch.tensor([[0, 3, 1], [9, 0, 0]])


class PlainSubclass(nn.Embedding):
    pass


class OwnForward(nn.Embedding):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input) * 2.0


class Lookup(nn.Module):
    def __init__(self, words: nn.Module) -> None:
        super().__init__()
        self.words = words

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.words(input=ids)


class Tied(nn.Module):
    """A language model's table, which is looked up twice and which the head multiplies by."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(10, 4, padding_idx=0), nn.Linear(4, 10, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.words(ids) + self.words(ids + 0))


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("by_keyword", Lookup(nn.Embedding(10, 4))),
        ("padding", Lookup(nn.Embedding(10, 4, padding_idx=0))),
        ("subclass", Lookup(PlainSubclass(10, 4))),
        ("tied", Tied()),
    ],
    ids=["by keyword", "padding", "subclass", "tied"],
)
def test_a_layer_is_a_lookup_in_a_constant(check_rewrite: Any, name: str, model: nn.Module) -> None:
    gm = capture(model)
    check_rewrite(gm, DecomposeEmbedding(), name)
    torch.testing.assert_close(gm(IDS), model(IDS), rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("name", "model"),
    [("own_forward", Lookup(OwnForward(10, 4))), ("max_norm", Lookup(nn.Embedding(10, 4, max_norm=1.0)))],
    ids=["own forward", "max norm"],
)
def test_a_layer_that_does_more_than_look_up_stays(check_rewrite: Any, name: str, model: nn.Module) -> None:
    gm = capture(model)
    report = check_rewrite(gm, DecomposeEmbedding(), name)
    assert not any(site.applied for site in report.sites)


def test_the_row_of_the_padding_still_gets_no_gradient() -> None:
    prepared = fxquant.prepare(Tied(), IDS, target="qualcomm")
    fxquant.calibrate(prepared, [IDS])
    table = prepared.words.weight
    prepared.head.weight = nn.Parameter(torch.zeros(10, 4))
    prepared(IDS).sum().backward()
    assert table.grad is None or not table.grad[0].any()
