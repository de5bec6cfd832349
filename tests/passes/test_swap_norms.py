from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fxquant.graph import Example, Report, capture
from fxquant.passes import SwapNorms, parse


class NormAct(nn.BatchNorm2d):
    """A batch norm with a forward of its own, as timm has them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.1, self.eps
        )
        return F.relu(x)


class OfTheBatch(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(x, None, None, training=True)


IMAGE = torch.randn(2, 3, 6, 6)


def network() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), NormAct(4)).eval()
    nn.init.normal_(model[1].running_mean)
    nn.init.uniform_(model[1].running_var, 0.5, 2.0)
    return model


def test_a_norm_called_as_a_function_becomes_a_layer(check_rewrite: Any) -> None:
    model = network()
    gm = capture(model, Example(args=(IMAGE,)))
    check_rewrite(gm, SwapNorms(), "norm_act")
    assert torch.equal(gm(IMAGE), model(IMAGE))


def test_it_is_folded_then() -> None:
    model = network()
    gm = capture(model, Example(args=(IMAGE,)))
    parse("canonicalize,swap-norms,fold-batch-norm").run(gm, Report())
    assert [node.target for node in gm.graph.find_nodes(op="call_module")] == ["0"]
    torch.testing.assert_close(gm(IMAGE), model(IMAGE), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("gm", "reason"),
    [
        (capture(OfTheBatch(), Example(args=(IMAGE,))), "statistics of the batch"),
        (capture(nn.Sequential(network())), "prepare with example_inputs"),
    ],
    ids=["batch statistics", "unknown rank"],
)
def test_another_stays_a_function(gm: Any, reason: str) -> None:
    report = Report()
    SwapNorms()(gm, report)
    (site,) = report.declined("swap-norms")
    assert reason in site.reason
