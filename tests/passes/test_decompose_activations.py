"""DecomposeActivations: gates of silu and mish."""

from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from fxquant.graph import Example, Report, capture
from fxquant.passes import DecomposeActivations


class Functions(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x) + F.mish(input=x)


class Shared(nn.Module):
    """One layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.act, self.fc = nn.SiLU(), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.fc(self.act(x)))


class Others(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(F.relu(x))


@pytest.mark.parametrize(
    ("name", "model"),
    [("functions", Functions()), ("layers", nn.Sequential(nn.SiLU(), nn.Mish())), ("shared", Shared())],
    ids=["functions", "layers", "shared"],
)
def test_an_activation_with_a_gate_is_a_product(check_rewrite: Any, name: str, model: nn.Module) -> None:
    gm, x = capture(model), torch.randn(2, 4)
    report = check_rewrite(gm, DecomposeActivations(), name)
    assert all(site.applied for site in report.sites)
    torch.testing.assert_close(gm(x), model(x))


def test_other_activations_stay(check_rewrite: Any) -> None:
    check_rewrite(capture(Others()), DecomposeActivations(), "others")


def test_a_product_is_of_the_layer_and_has_the_result_of_the_activation() -> None:
    gm = capture(nn.Sequential(nn.Linear(4, 4), nn.SiLU()), Example(args=(torch.randn(2, 4),)))
    DecomposeActivations()(gm, Report())
    sigmoid, mul = _named(gm, "sigmoid"), _named(gm, "mul")
    assert (sigmoid.meta["layer"], mul.meta["layer"]) == ("1", "1")
    assert sigmoid.meta["result"] == mul.meta["result"]


def _named(gm: fx.GraphModule, name: str) -> fx.Node:
    return next(node for node in gm.graph.nodes if node.name == name)
