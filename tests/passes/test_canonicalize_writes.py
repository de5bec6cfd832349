from typing import Any

import pytest
import torch
from torch import nn

from fxquant.graph import Example, Report, capture
from fxquant.passes import CanonicalizeWrites, parse

ROWS = torch.linspace(-2.0, 2.0, 32).reshape(4, 8).sin()


class Item(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[:, 4:] = 0.5
        y[y > 1] = 0.25
        return y.relu()


class AddsToItem(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[:2, 1:3] += x[:2, 1:3]
        return y


class WritesIntoAPart(nn.Module):
    """A part of a part, read and written again after its base was written."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x * 2
        left = y[:, :4]
        left.add_(1)
        y[:, 2:] = 0.5
        y[0][1:3].mul_(3)
        left.sub_(2)
        return y, left.sum(1)


class FillsInALoop(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros(4, 8)
        for row in range(4):
            y[row] = x[row] * row
        y[:, 1:3].copy_(x[:, :2])
        y[:, -1].fill_(2.0)
        return y


class WritesUnderAView(nn.Module):
    reason = "seen through a view"

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x * 2
        flat = y.view(-1)
        y[0] = 1.0
        return y, flat * 2


class WritesABuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.zeros(4, 8))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.cache[:2] = x[:2]
        self.calls += 1
        return self.cache * self.calls + x


class FillsTheDiagonal(nn.Module):
    reason = "no out-of-place form"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[:, :4].fill_diagonal_(1.0)
        return y


@pytest.mark.parametrize("model", [Item(), AddsToItem(), WritesIntoAPart(), FillsInALoop()], ids=str)
def test_a_write_into_a_part_gives_a_new_tensor(check_rewrite: Any, model: nn.Module) -> None:
    gm = capture(model, Example(args=(ROWS,)))
    wanted = model(ROWS.clone())
    check_rewrite(gm, CanonicalizeWrites(), type(model).__name__.lower())
    torch.testing.assert_close(gm(ROWS.clone()), wanted)
    parse("canonicalize").run(gm, Report())
    torch.testing.assert_close(gm(ROWS.clone()), wanted)
    in_place = [node.name for node in gm.graph.nodes if str(node.target).endswith("_")]
    assert in_place == []


@pytest.mark.parametrize(
    "model", [WritesUnderAView(), pytest.param(FillsTheDiagonal(), id="no form out of place")], ids=str
)
def test_another_write_stays(model: nn.Module) -> None:
    gm, report = capture(model, Example(args=(ROWS,))), Report()
    wanted = model(ROWS)
    CanonicalizeWrites()(gm, report)
    assert [type(model).reason in site.reason for site in report.declined("canonicalize-writes")] == [True]
    torch.testing.assert_close(gm(ROWS), wanted)


def test_the_model_keeps_what_is_written_into_its_buffers(check_rewrite: Any) -> None:
    model = WritesABuffer()
    gm = capture(model, Example(args=(ROWS,)))
    check_rewrite(gm, CanonicalizeWrites(), "writesabuffer")
    for x in (ROWS, ROWS + 1):
        torch.testing.assert_close(gm(x), model(x))
        assert torch.equal(gm.cache, model.cache)
        assert torch.equal(gm.calls, model.calls)
