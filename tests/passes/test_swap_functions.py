from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Report
from fxquant.passes import SwapFunctions


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.conv(x), inplace=True) + x
        return torch.cat([y, x.sigmoid()], dim=1)


class Nested(nn.Module):
    """A block called twice: the names of its ops are made unique."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.block(x)[:, :4])


class Function(nn.Module):
    def __init__(self, call: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.call = call

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.call(x, y)


CALLS = {
    "by_keyword": lambda x, y: torch.add(input=x, other=y),
    "with_an_option": lambda x, y: torch.add(x, y, alpha=2),
    "reversed": lambda x, y: torch.rsub(x, y),
    "number_first": lambda x, y: 1.0 - x,
    "method": lambda x, y: x.mul(y).softmax(-1),
    "softmax": lambda x, y: F.softmax(x, dim=1),
    "stack": lambda x, y: torch.stack([x, y], 1),
    "cat_on_the_first_axis": lambda x, y: torch.cat((x, y)),
    "matmul": lambda x, y: x @ y.transpose(-1, -2),
    "pool": lambda x, y: F.adaptive_avg_pool2d(x, 1),
    "chunks": lambda x, y: x.chunk(2, 1)[0] + y.split(2, 1)[1],
    "shapes": lambda x, y: x.view(x.shape[0], x.size(1) * 2, -1) * (x.shape[0] + 1),
    "scalar": lambda x, y: x * 2.0 + 1,
}


@pytest.mark.parametrize(
    "model", [pytest.param(Block(), id="block"), pytest.param(Nested(), id="block_called_twice")]
)
def test_functions_become_modules(
    model: nn.Module,
    request: pytest.FixtureRequest,
    captured: Callable[..., fx.GraphModule],
    check_rewrite: Callable[..., Report],
) -> None:
    check_rewrite(captured(model, "canonicalize"), SwapFunctions(), request.node.callspec.id)


@pytest.mark.parametrize("name", CALLS)
def test_call_becomes_a_module(
    name: str, captured: Callable[..., fx.GraphModule], check_rewrite: Callable[..., Report]
) -> None:
    check_rewrite(captured(Function(CALLS[name]), "canonicalize"), SwapFunctions(), name)


@pytest.mark.parametrize("name", CALLS)
def test_modules_compute_what_the_functions_did(name: str, captured: Callable[..., fx.GraphModule]) -> None:
    x, y = torch.rand(2, 4, 6, 6), torch.rand(2, 4, 6, 6)
    gm = captured(Function(CALLS[name]), "canonicalize,swap-functions")
    assert torch.equal(gm(x, y), CALLS[name](x, y))


@pytest.mark.parametrize("name", CALLS)
def test_second_run_changes_nothing(name: str, captured: Callable[..., fx.GraphModule]) -> None:
    gm = captured(Function(CALLS[name]), "canonicalize,swap-functions")
    before = str(gm.graph)
    assert not SwapFunctions()(gm, Report())
    assert str(gm.graph) == before
