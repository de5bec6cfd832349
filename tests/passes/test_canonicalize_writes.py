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


class Averages(nn.Module):
    """A running mean, written in place twice."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.mean.mul_(0.9)
        self.mean.add_(x.mean(0))
        return x + self.mean


class WritesItemsOfABuffer(Averages):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + self.mean
        self.mean[0] = x.mean()
        part = self.mean[1:3]
        part.add_(x.sum())
        part.mul_(0.5)
        return y


class WritesItsInput(Averages):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x[:, 0] = self.mean[0]
        y = x.sum(1)
        x.relu_()
        x.sub_(1)
        return y


class WritesItsInputThroughAView(Averages):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.view(-1)
        y.add_(1)
        return y * 2


STATEFUL = [Averages(), WritesItemsOfABuffer(), WritesItsInput()]


@pytest.mark.parametrize("model", STATEFUL, ids=lambda model: type(model).__name__)
def test_buffers_and_inputs_hold_in_the_end_what_was_written_into_them(model: nn.Module) -> None:
    gm = capture(model, Example(args=(ROWS,)))
    parse("canonicalize-writes,canonicalize,remove-noop").run(gm, Report())
    for step in range(3):
        ours, theirs = ROWS + step, ROWS + step
        torch.testing.assert_close(gm(ours), model(theirs))
        assert torch.equal(ours, theirs)
        assert not hasattr(gm, "mean") or torch.equal(gm.mean, model.mean)


def test_a_models_input_keeps_its_value_when_it_is_written_through_a_view() -> None:
    model = WritesItsInputThroughAView()
    gm = capture(model, Example(args=(ROWS,)))
    parse("canonicalize-writes,canonicalize").run(gm, Report())
    x = ROWS.clone()
    torch.testing.assert_close(gm(x), model(ROWS.clone()))
    assert torch.equal(x, ROWS)


def test_a_tensor_keeps_its_type_when_another_type_is_written_into_it() -> None:
    class Mixed(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y, above = x.half(), x.clone()
            y.add_(x)
            above.gt_(0.5)
            return y, 1 - above

    gm = capture(Mixed(), Example(args=(ROWS,)))
    parse("canonicalize-writes,canonicalize").run(gm, Report())
    assert [result.dtype for result in gm(ROWS)] == [torch.float16, torch.float32]
    torch.testing.assert_close(gm(ROWS), Mixed()(ROWS))


def test_the_model_keeps_what_is_written_into_its_buffers(check_rewrite: Any) -> None:
    model = WritesABuffer()
    gm = capture(model, Example(args=(ROWS,)))
    check_rewrite(gm, CanonicalizeWrites(), "writesabuffer")
    for x in (ROWS, ROWS + 1):
        torch.testing.assert_close(gm(x), model(x))
        assert torch.equal(gm.cache, model.cache)
        assert torch.equal(gm.calls, model.calls)
